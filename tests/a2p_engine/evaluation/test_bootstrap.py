"""Confidence intervals: where they lie, how wide they are, and that they are repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from a2p_engine.evaluation.bootstrap import Bootstrap, Estimate, divided, estimate


def test_the_interval_is_that_of_the_binomial() -> None:
    """For one term an utterance it agrees with the normal approximation."""
    hits = np.repeat([1, 0], [320, 80])
    found = estimate(Bootstrap(400, seed=3).ratio(hits, np.ones(400)))
    assert found.value == 0.8
    assert found.low is not None and found.high is not None
    spread = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert found.low == pytest.approx(0.8 - spread, abs=0.01)
    assert found.high == pytest.approx(0.8 + spread, abs=0.01)


def test_terms_of_one_utterance_count_together() -> None:
    """Five like terms an utterance make the interval as wide as one does."""
    hits = np.repeat([1, 0], [80, 20])
    one = estimate(Bootstrap(100).ratio(hits, np.ones(100)))
    five = estimate(Bootstrap(100).ratio(5 * hits, np.full(100, 5)))
    assert one == five


def test_the_same_seed_gives_the_same_interval() -> None:
    """And another seed another one."""
    values = np.arange(50) % 3
    first, again, other = (
        estimate(Bootstrap(50, seed).ratio(values, np.full(50, 2))) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_difference_is_paired() -> None:
    """What is worse by one in every utterance is worse by one in every draw."""
    draws = Bootstrap(30)
    errors = np.arange(30)
    change = draws.ratio(errors + 1, np.ones(30)) - draws.ratio(errors, np.ones(30))
    found = estimate(change)
    assert found.low == pytest.approx(1.0) and found.high == pytest.approx(1.0)


def test_nothing_to_divide_by_is_no_figure() -> None:
    """No utterance and a divisor of zero give None instead of a number."""
    assert estimate(Bootstrap(3).ratio([0, 0, 0], [0, 0, 0])) == Estimate(None)
    assert estimate(Bootstrap(0).ratio([], [])) == Estimate(None)
    assert Estimate(None).json() == {"value": None, "low": None, "high": None}
    assert np.isnan(divided(np.ones(1), np.zeros(1))).all()
