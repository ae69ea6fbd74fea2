"""Figures of a search: what counts towards recall, precision and calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from a2p_engine.evaluation import retrieval_pictures
from a2p_engine.evaluation.retrieval import ALL, ANY, Offer, Spoken, Trial, kinds_of
from a2p_engine.evaluation.retrieval_report import (
    Missed,
    Result,
    binned,
    precision_recall,
    results,
)

THRESHOLDS = {"cautious": 0.5, "eager": 0.2}


def _offer(term: str, probability: float, *, spoken: bool, listed: bool | None = None) -> Offer:
    at = (ANY, *(name for name, level in THRESHOLDS.items() if probability >= level))
    listed = spoken if listed is None else listed
    return Offer(term=term, probability=probability, at=at, spoken=spoken, listed=listed)


def _trial(
    id: str,
    ranks: dict[str, int],
    *offers: Offer,
    condition: str = "clean",
    size: int = 100,
    rivals: Mapping[str, int] = MappingProxyType({}),
) -> Trial:
    spoken = (
        Spoken(
            term=term,
            ranks={ALL: rank, "spotter": 2 * rank},
            kinds=kinds_of(term, frozenset("x")),
            rival=rivals.get(term),
        )
        for term, rank in ranks.items()
    )
    return Trial(
        id=id, condition=condition, size=size, audio_s=1800.0, step_s=(0.2, 0.25, 4.0), missing=1,
        spoken=tuple(spoken), offers=offers,
    )  # fmt: skip


@pytest.fixture
def result() -> Result:
    """Two half hours with four terms between them."""
    (found,) = results(
        [
            _trial(
                "a",
                {"x": 1, "light roast": 8},
                _offer("x", 0.95, spoken=True),
                _offer("roast", 0.65, spoken=True, listed=False),
                _offer("z", 0.25, spoken=False),
                _offer("w", 0.05, spoken=False),
            ),
            _trial("b", {"y": 4, "AWS": 60}),
        ],
        THRESHOLDS,
    )
    return found


def test_recall_is_counted_at_each_depth_by_kind_and_stage(result: Result) -> None:
    """Shares of the terms spoken, overall and in each part."""
    shares = {depth: figure.value for depth, figure in result.recall["all"].at.items()}
    assert shares == {1: 0.25, 5: 0.5, 10: 0.75, 20: 0.75, 50: 0.75}
    assert result.stages["spotter"].at[10].value == 0.5
    kinds = {kind: recall.terms for kind, recall in result.recall.items()}
    assert kinds == {
        "all": 4, "single_word": 3, "multi_word": 1, "acronym": 1, "seen": 1, "unseen": 3
    }  # fmt: skip
    assert result.recall["multi_word"].at[10].value == 1.0
    assert result.missing == 2
    assert result.seconds_per_query == 0.25


def test_offers_are_judged_at_each_threshold(result: Result) -> None:
    """A word that is said counts as right, and is no term caught unless it is listed."""
    eager = result.offers["eager"]
    assert (eager.number, eager.per_recording.value) == (3, 1.5)
    assert eager.precision.value == pytest.approx(2 / 3)
    assert eager.recall.value == 0.25
    assert eager.false_per_hour.value == pytest.approx(1.0)
    assert eager.calibration_error.value == pytest.approx((0.05 + 0.35 + 0.25) / 3)
    assert result.offers["cautious"].precision.value == 1.0


def test_what_is_missed_is_compared_with_what_outranks_it() -> None:
    """Only of terms beyond the tenth place; a homophone is within one phoneme, too."""
    trials = [
        _trial("a", {"sah": 11, "vales": 40, "oz": 12, "neo": 90}, rivals={"sah": 0, "vales": 1}),
        _trial("b", {"morn": 10, "olive": 11}, rivals={"morn": 0, "olive": 2}),
    ]
    (found,) = results(trials, THRESHOLDS)
    assert found.missed == Missed(terms=5, homophone=1, one_phoneme=2)
    assert found.json()["missed@10"] == {"terms": 5, "homophone": 1, "one_phoneme": 2}


def test_the_report_is_json(result: Result) -> None:
    """With intervals."""
    record = json.loads(json.dumps(result.json()))
    assert record["recall"]["all"]["@10"]["value"] == 0.75
    assert set(record["offered"]["eager"]["precision"]) == {"value", "low", "high"}


def test_conditions_and_sizes_are_kept_apart() -> None:
    """Quiet comes first, then less and less noise comes last."""
    trials = [
        _trial("a", {"x": 1}, condition=condition, size=size)
        for condition in ("5", "clean", "20")
        for size in (200, 100)
    ]
    found = [(one.condition, one.size) for one in results(trials, THRESHOLDS)]
    assert found == [
        ("clean", 100), ("clean", 200), ("20", 100), ("20", 200), ("5", 100), ("5", 200)
    ]  # fmt: skip


def test_calibration_knows_over_and_underconfidence() -> None:
    """Errors within one bin cancel, those of different bins do not; 1.0 is in the last bin."""
    level = [_offer("a", 0.25, spoken=number == 0) for number in range(4)]
    assert binned(level)[2][2] == pytest.approx(0.0)
    number, total, gap = binned([_offer("a", 1.0, spoken=False), _offer("b", 0.05, spoken=True)])
    assert (number[0], number[9], total[9]) == (1, 1, 1.0)
    assert np.abs(gap).sum() == pytest.approx(1.0 + 0.95)


def test_the_precision_recall_curve_takes_equal_probabilities_together() -> None:
    """One point for each probability, from the highest down."""
    offers = [
        _offer("a", 0.9, spoken=True),
        _offer("b", 0.4, spoken=False),
        _offer("c", 0.4, spoken=True),
    ]
    threshold, precision, recall = precision_recall(offers, 4)
    assert threshold.tolist() == [0.9, 0.4]
    assert precision.tolist() == [1.0, pytest.approx(2 / 3)]
    assert recall.tolist() == [0.25, 0.5]


def test_pictures_come_with_their_figures(tmp_path: Path) -> None:
    """Each picture that has something to show, and the JSON it was drawn from."""
    offer = _offer("x", 0.9, spoken=True)
    trials = [
        _trial("a", {"x": 1, "y": 20}, offer, condition=condition, size=size)
        for condition in ("clean", "10")
        for size in (100, 1000)
    ]
    drawn = retrieval_pictures.draw(results(trials, THRESHOLDS), tmp_path)
    assert {path.stem for path in drawn} == {
        "recall_by_size", "recall_by_snr", "reliability", "precision_recall", "recall_by_kind"
    }  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    curve = json.loads((tmp_path / "recall_by_size.json").read_text())
    assert curve["x"] == [100, 1000]
    assert curve["lines"]["@10"]["value"] == [0.5, 0.5]


def test_a_single_size_in_quiet_draws_no_curves(tmp_path: Path) -> None:
    """A line needs two points."""
    drawn = retrieval_pictures.draw(results([_trial("a", {"x": 1})], THRESHOLDS), tmp_path)
    assert {path.stem for path in drawn} == {"reliability", "precision_recall", "recall_by_kind"}
