"""The rate at which terms are said: what a session starts from, learns and forgets."""

from __future__ import annotations

import pytest

from a2p_engine.retriever.term_rate import HALF_LIFE_S, TermRate


def test_a_session_begins_at_the_rate_of_calibration() -> None:
    """Before anything was heard there is no better guess."""
    assert TermRate(0.5).share == 1.0


def test_the_rate_is_learnt_from_what_is_found() -> None:
    """(1 + terms) / (1 / mean + seconds), over the mean."""
    rate = TermRate(0.5)
    rate.hear(0.25, 8.0)
    assert rate.share == pytest.approx((1 + 0.25) / (1 / 0.5 + 8) / 0.5)


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
