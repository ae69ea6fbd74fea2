"""The bounded window over a session's audio."""

from __future__ import annotations

import pytest

from clients.audio import AudioFormat
from clients.backlog import FRAME_BYTES, Backlog

SECOND = 32_000


def drain(backlog: Backlog) -> bytes:
    """All that is still to be sent."""
    frames = b""
    while frame := backlog.next_frame():
        assert len(frame) <= FRAME_BYTES
        frames += frame
    return frames


def test_audio_is_sent_once_and_in_order() -> None:
    """What was sent is not sent again before a rewind."""
    backlog = Backlog(AudioFormat(), 60)
    backlog.append(b"ab" * SECOND)
    assert drain(backlog) == b"ab" * SECOND
    backlog.append(b"cd")
    assert drain(backlog) == b"cd"


def test_a_rewind_starts_behind_the_last_final() -> None:
    """Audio up to a final is forgotten, the rest is sent again."""
    backlog = Backlog(AudioFormat(), 60)
    backlog.append(bytes(SECOND) + b"x" * SECOND)
    drain(backlog)
    backlog.finish_until(1.0)
    assert backlog.rewind() == 1.0
    assert drain(backlog) == b"x" * SECOND


def test_only_audio_that_was_never_sent_counts_as_lost() -> None:
    """Sent audio leaves the window silently; unsent audio is counted once."""
    backlog = Backlog(AudioFormat(), 2)
    backlog.append(bytes(2 * SECOND))
    drain(backlog)
    backlog.append(bytes(3 * SECOND))
    assert backlog.take_dropped_s() == 1.0
    assert backlog.take_dropped_s() == 0.0
    assert backlog.rewind() == 3.0


def test_a_final_cannot_forget_audio_that_was_not_sent() -> None:
    """A final that claims to reach beyond the sent audio drops nothing behind it."""
    backlog = Backlog(AudioFormat(), 60)
    backlog.append(bytes(SECOND))
    drain(backlog)
    backlog.append(bytes(SECOND))
    backlog.finish_until(99.0)
    assert (backlog.take_dropped_s(), backlog.rewind()) == (0.0, 1.0)


@pytest.mark.parametrize("odd", [1, 2, 3, 5])
def test_the_window_begins_with_a_whole_frame(odd: int) -> None:
    """Dropping never cuts a sample or swaps channels, however the audio was split."""
    audio = AudioFormat(channels=2)
    backlog = Backlog(audio, 1)
    for _ in range(3):
        backlog.append(bytes(audio.bytes_of(0.5) + odd))
        drain(backlog)
        backlog.finish_until(0.3)
        assert backlog.start % audio.frame_bytes == 0
