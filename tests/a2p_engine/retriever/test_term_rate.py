"""The rate at which terms are said: what a session starts from, learns and forgets."""

from __future__ import annotations

import numpy as np
import pytest

from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.term_rate import HALF_LIFE_S, SHAPE, TermRate, expected_terms


def test_a_session_begins_at_the_rate_of_calibration() -> None:
    """Before anything was heard there is no better guess."""
    assert TermRate(0.5).share == 1.0


def test_the_rate_is_learnt_from_what_is_found() -> None:
    """(shape + terms) / (shape / mean + seconds), over the mean."""
    rate = TermRate(0.5)
    rate.hear(0.25, 8.0)
    assert rate.share == pytest.approx((SHAPE + 0.25) / (SHAPE / 0.5 + 8) / 0.5)


def test_speech_is_not_taken_for_denser_than_in_calibration() -> None:
    """Many wrong guesses must not make room for more."""
    rate = TermRate(0.5)
    rate.hear(20, 4.0)
    assert rate.share == 1.0


def test_terms_come_back_after_a_long_time_without() -> None:
    """A quarter of an hour of small talk is forgotten within minutes."""
    rate = TermRate(0.5)
    for _ in range(90):
        rate.hear(0.0, 10.0)
    low = rate.share
    assert 0 < low < 0.02
    for _ in range(int(HALF_LIFE_S // 10)):
        rate.hear(5.0, 10.0)
    assert rate.share > 0.4


def test_a_segment_of_no_length_changes_nothing_by_itself() -> None:
    """Nor does one in which nobody spoke."""
    rate = TermRate(0.5)
    rate.hear(0.0, 0.0)
    assert rate.share == 1.0


def _found(*rows: tuple[float, int, int]) -> Evidence:
    probability, start, end = (np.array(column) for column in zip(*rows, strict=True))
    cost = np.zeros(len(rows), np.float32)
    return Evidence(np.arange(len(rows)), probability.astype(np.float32), cost, start, end)


@pytest.mark.parametrize(
    ("rows", "terms"),
    [
        ([(0.9, 0, 10), (0.3, 20, 30)], 1.2),
        ([(0.5, 0, 10), (0.4, 0, 10)], 0.9),
        ([(1.0, 0, 10), (1.0, 0, 10)], 1.0),
        ([(1.0, 0, 20), (1.0, 10, 20)], 0.5 + 1 / 1.5),
    ],
    ids=["apart", "sound-alikes", "spellings", "within another"],
)
def test_one_place_counts_once(rows: list[tuple[float, int, int]], terms: float) -> None:
    """Sound-alikes share a probability; spellings and parts of a term do not, but are no more."""
    assert expected_terms(_found(*rows)) == pytest.approx(terms)


def test_nothing_found_is_no_term() -> None:
    """A glossary may be all switched off."""
    nothing = np.zeros(0, np.float32)
    place = np.zeros(0, np.int32)
    assert expected_terms(Evidence(place, nothing, nothing, place, place)) == 0
