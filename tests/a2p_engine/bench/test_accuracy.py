"""The comparison with float64 sees what is wrong."""

from __future__ import annotations

from a2p_engine.bench.accuracy import Accuracy
from a2p_engine.bench.stage import Stage


def test_scores_agree_with_float64(stage: Stage) -> None:
    """Far closer than the scores are to each other."""
    found = Accuracy.measure(stage, seed=1)
    assert found.terms == 300
    assert found.score < 1e-5
    assert found.log_prob < 1e-5
    assert found.spread > 1e-2
    assert found.same_top == 1


def test_wrong_queries_are_noticed(stage: Stage) -> None:
    """In scores, in log-probabilities and in the order of terms."""
    stage.table.queries.neg_()
    found = Accuracy.measure(stage, seed=1)
    assert found.score > 1e-2
    assert found.log_prob > 1e-3
    assert found.same_top < 1


def test_wrong_priors_are_noticed(stage: Stage) -> None:
    """In log-probabilities alone."""
    stage.table.priors.add_(0.1)
    found = Accuracy.measure(stage, seed=1)
    assert found.score < 1e-5
    assert found.log_prob > 1e-3
