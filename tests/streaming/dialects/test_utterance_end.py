"""Deepgram's ``UtteranceEnd``: told by the clock of the audio, when no word follows for so long."""

from __future__ import annotations

from a2p_engine.types import Word
from streaming.events import Event
from tests.streaming.dialects.test_deepgram import (
    final,
    listening,
    started,
    stats,
    stopped,
    told,
)


def utterance_ends(*events: Event, gap_ms: int = 1000) -> list[float]:
    """The ends that are told; the speech of ``final`` ends at 2.5 s."""
    messages = told(listening(f"utterance_end_ms={gap_ms}"), *events)
    ends = [message for message in messages if message["type"] == "UtteranceEnd"]
    assert all(message["channel"] == [0, 1] for message in ends)
    return [message["last_word_end"] for message in ends]


def test_an_utterance_ends_when_the_audio_is_that_far_behind_its_last_word() -> None:
    """Once; the clock is that of the audio."""
    assert utterance_ends(final(), stats(3.4)) == []
    assert utterance_ends(final(), stats(3.5), stats(9)) == [2.5]
    assert utterance_ends(final(), stats(3.5), gap_ms=1500) == []


def test_without_words_no_utterance_ends() -> None:
    """Silence alone is none."""
    assert utterance_ends(stats(60), final(text="", words=()), stats(90)) == []


def test_audio_that_was_not_heard_yet_may_hold_words() -> None:
    """A slow engine makes it late, not wrong."""
    assert utterance_ends(final(), stats(5.0, lag_s=2.0)) == []
    assert utterance_ends(final(), stats(5.0, lag_s=2.0), stats(5.0)) == [2.5]


def test_speech_in_the_gap_may_go_on_with_the_utterance() -> None:
    """What was said of it is waited for, then the gap counts from its last word."""
    events = (final(), started(2, 3.0), stats(4.0), stopped(2, 3.6), stats(4.5, lag_s=1))
    assert utterance_ends(*events) == []
    late = Word(text=" late", start_sample=48_000, end_sample=56_000, probability=1)
    assert utterance_ends(*events, final(segment_id=2, words=(late,)), stats(4.6)) == [3.5]


def test_a_noise_in_the_gap_only_delays_the_end() -> None:
    """Speech that turns out to have had no words is forgotten."""
    events = (final(), started(2, 3.0), stats(3.6), stopped(2, 3.2))
    assert utterance_ends(*events, stats(3.7)) == [2.5]


def test_speech_behind_the_gap_ends_the_utterance_before_it() -> None:
    """At once."""
    assert utterance_ends(final(), started(2, 3.6)) == [2.5]
    assert utterance_ends(final(), started(2, 3.4)) == []


def test_the_first_of_several_waiting_segments_decides() -> None:
    """A backlog must not make a gap of what was not read yet."""
    assert utterance_ends(final(), started(2, 3.0), stopped(2, 4.0), started(3, 8.0)) == []


def test_the_end_is_told_before_what_comes_after_it() -> None:
    """The next final's words show the gap even without statistics."""
    late = Word(text=" late", start_sample=80_000, end_sample=88_000, probability=1)
    dialect = listening("utterance_end_ms=1000")
    messages = told(dialect, final(), final(segment_id=2, words=(late,)))
    assert [message["type"] for message in messages] == ["Results", "UtteranceEnd", "Results"]


def test_utterance_ends_are_told_only_if_wanted() -> None:
    """By default there are none."""
    assert [m["type"] for m in told(listening(), final(), stats(60))] == ["Results"]
