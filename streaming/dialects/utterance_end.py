"""Finds gaps between words on the clock of the audio, as Deepgram's ``UtteranceEnd`` tells them."""

from __future__ import annotations

from streaming.events import Event, Final, SpeechStarted, SpeechStopped, Stats
from streaming.segmenter import samples


class UtteranceEnds:
    """Follows a session's events; statistics are what tells it that time passes without words.

    Args:
        gap_ms: from the end of the last word; None tells nothing.
    """

    def __init__(self, gap_ms: int | None) -> None:
        self._gap = None if gap_ms is None else samples(gap_ms / 1000)
        self._last_word_end: int | None = None  # of an utterance that has not ended yet
        self._pending: dict[int, int] = {}  # first speech of segments that may still give words
        self._speaking = False  # whether the last of them goes on

    def follow(self, event: Event) -> int | None:
        """The end of an utterance's last word, once, as soon as it is certain; else None."""
        match event:
            case SpeechStarted(segment_id=segment_id, time_sample=onset):
                self._pending[segment_id], self._speaking = onset, True
                return self._ended_by(self._first_pending())
            case SpeechStopped():
                self._speaking = False
            case Final():
                return self._continue(event)
            case Stats(audio_samples=audio, lag_samples=lag):
                if not lag and not self._speaking:
                    self._pending.clear()  # they had no words
                return self._ended_by(self._first_pending(audio - lag))
        return None

    def _continue(self, final: Final) -> int | None:
        for segment_id in [known for known in self._pending if known <= final.segment_id]:
            del self._pending[segment_id]
        if not final.words:
            return None
        ended = self._ended_by(final.words[0].start_sample)
        self._last_word_end = final.words[-1].end_sample
        return ended

    def _first_pending(self, otherwise: int = 0) -> int:
        """Where the next word may begin."""
        return next(iter(self._pending.values()), otherwise)

    def _ended_by(self, sample: int) -> int | None:
        """Where the utterance ended, if there was no word up to ``sample``."""
        end = self._last_word_end
        if end is None or self._gap is None or sample - end < self._gap:
            return None
        self._last_word_end = None
        return end
