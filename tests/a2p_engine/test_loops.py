"""Texts that repeat themselves."""

from __future__ import annotations

from a2p_engine.loops import loops, without_loop
from tests.a2p_engine.timed import text_of, timed


def test_a_phrase_repeated_in_no_time_is_cut() -> None:
    """Looped words are all aligned to one point."""
    looped = timed(
        ("sugar", 0.2), ("is", 0.5), ("high.", 0.8), ("Sugar", 1), ("is", 1), ("high", 1)
    )
    assert text_of(without_loop(looped)) == "sugar is high."


def test_an_unfinished_repetition_is_cut() -> None:
    """Two words of a second round are enough."""
    looped = timed(("it", 0.2), ("was", 0.5), ("the", 0.8), ("best", 1), ("it", 1.2), ("was", 1.2))
    assert text_of(without_loop(looped)) == "it was the best"


def test_what_is_really_said_twice_stays() -> None:
    """Repetition with audio to show for it is speech."""
    said = timed(("no", 0), ("no", 0.3), ("I", 0.6), ("said", 0.9), ("I", 1.2), ("said", 1.5))
    assert without_loop(said) == said


def test_a_text_that_is_all_repetition_is_a_loop() -> None:
    """By its compression, as in Whisper's own decoder."""
    assert loops("it was the best of times, " * 5)
    assert not loops("it was the best of times, it was the worst of times")
