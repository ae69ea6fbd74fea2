"""Cuts a stream of speech probabilities into segments: a pure state machine over frames.

A segment opens once speech has lasted for the onset time; it reaches back by the pre-roll, so that
a soft first sound is not lost. It closes at the endpoint, when non-speech has lasted for the
hangover, or at the maximum length, at the least speech-like frame of the last ``hold_back_s``; what
lies behind that cut opens the next segment at once, so no speech is lost or heard twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from a2p_engine.types import SAMPLE_RATE_HZ
from streaming.events import EndReason


def samples(duration_s: float) -> int:
    """Samples of 16 kHz audio in a duration."""
    return round(duration_s * SAMPLE_RATE_HZ)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterConfig:
    """When segments open and close.

    Attributes:
        threshold: a frame at or above this probability can open a segment.
        release_threshold: a frame below this one is non-speech in an open segment; lower than
            ``threshold``, so that a level in between does not flicker.
        onset_s: speech in a row that opens a segment.
        pre_roll_s: audio before the onset that belongs to the segment.
        hangover_s: non-speech in a row that closes a segment.
        min_hangover_s: what the hangover has shrunk to at ``max_s``.
        soft_max_s: length from which on the hangover shrinks.
        max_s: length at which a segment is cut.
        hold_back_s: how far back from the end the cut may lie.
        min_speech_s: a segment with less speech than this is dropped.
    """

    threshold: float = 0.5
    release_threshold: float = 0.35
    onset_s: float = 0.1
    pre_roll_s: float = 0.3
    hangover_s: float = 0.5
    min_hangover_s: float = 0.15
    soft_max_s: float = 8.0
    max_s: float = 14.0
    hold_back_s: float = 1.0
    min_speech_s: float = 0.25


@dataclass(kw_only=True, slots=True)
class OpenSegment:
    """The segment being spoken; all indices are samples of the session.

    Attributes:
        onset_sample: where its speech begins.
        speech_samples: amount of speech in it.
        speech_end_sample: behind its last speech.
        continuation: it goes on from a cut, so even a little speech is the rest of a word.
    """

    segment_id: int
    start_sample: int
    onset_sample: int
    speech_samples: int
    speech_end_sample: int
    continuation: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A segment began; ``start_sample`` is its first sample, its speech is a little later."""

    segment_id: int
    start_sample: int
    onset_sample: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """A segment ended; ``keep`` is false when it held too little speech to be worth a caption."""

    segment_id: int
    end_sample: int
    speech_end_sample: int
    reason: EndReason
    keep: bool


Boundary = Opened | Closed


class Segmenter:
    """Takes one probability per frame, in order, and tells where segments begin and end."""

    def __init__(self, config: SegmenterConfig, frame_samples: int) -> None:
        self._config = config
        self._frame = frame_samples
        self._onset_frames = max(1, round(samples(config.onset_s) / frame_samples))
        recent_frames = max(1, samples(config.hold_back_s) // frame_samples)
        self._recent: deque[float] = deque(maxlen=recent_frames)
        self._run = 0  # frames of speech in a row while no segment is open
        self._last_end = 0
        self._next_id = 1
        self.now_sample = 0
        self.open: OpenSegment | None = None

    @property
    def settled_sample(self) -> int:
        """Audio of the open segment below this index can not move to the next one by a cut."""
        if self.open is None:
            return self.now_sample
        reach = samples(self._config.max_s) - samples(self._config.hold_back_s)
        return min(self.now_sample, self.open.start_sample + reach)

    @property
    def earliest_start_sample(self) -> int:
        """No segment that opens from now on begins below this index."""
        return max(self._last_end, self.now_sample - self._run * self._frame - self._pre_roll)

    def push(self, probability: float) -> list[Boundary]:
        """Take the next frame."""
        self.now_sample += self._frame
        if self.open is None:
            return self._listen(probability)
        self._recent.append(probability)
        if probability >= self._config.release_threshold:
            self.open.speech_samples += self._frame
            self.open.speech_end_sample = self.now_sample
        length = self.now_sample - self.open.start_sample
        if self.now_sample - self.open.speech_end_sample >= self._hangover(length):
            return [self._close(self.now_sample, "endpoint")]
        return self._cut() if length >= samples(self._config.max_s) else []

    def flush(self, reason: EndReason) -> list[Boundary]:
        """Close the open segment, if any, where the audio now ends."""
        self._run = 0
        return [self._close(self.now_sample, reason)] if self.open else []

    @property
    def _pre_roll(self) -> int:
        return samples(self._config.pre_roll_s)

    def _listen(self, probability: float) -> list[Boundary]:
        self._run = self._run + 1 if probability >= self._config.threshold else 0
        if self._run < self._onset_frames:
            return []
        speech = self._run * self._frame
        segment = OpenSegment(
            segment_id=self._next_id,
            start_sample=self.earliest_start_sample,
            onset_sample=self.now_sample - speech,
            speech_samples=speech,
            speech_end_sample=self.now_sample,
        )
        return [self._begin(segment, [])]

    def _begin(self, segment: OpenSegment, recent: list[float]) -> Opened:
        self.open = segment
        self._next_id += 1
        self._run = 0
        self._recent.clear()
        self._recent.extend(recent)
        return Opened(
            segment_id=segment.segment_id,
            start_sample=segment.start_sample,
            onset_sample=segment.onset_sample,
        )

    def _close(self, end: int, reason: EndReason) -> Closed:
        segment, self.open = self.open, None
        assert segment is not None  # every caller has just looked
        self._last_end = end
        enough = segment.speech_samples >= samples(self._config.min_speech_s)
        return Closed(
            segment_id=segment.segment_id,
            end_sample=end,
            speech_end_sample=min(end, segment.speech_end_sample),
            reason=reason,
            keep=enough or segment.continuation,
        )

    def _cut(self) -> list[Boundary]:
        """Close behind the least speech-like recent frame; speech behind it opens the next one."""
        recent = list(self._recent)
        kept = recent.index(min(recent)) + 1
        cut = self.now_sample - (len(recent) - kept) * self._frame
        closed = self._close(cut, "max_length")
        rest = recent[kept:]
        spoken = [value >= self._config.release_threshold for value in rest]
        if not any(spoken):
            return [closed]
        segment = OpenSegment(
            segment_id=self._next_id,
            start_sample=cut,
            onset_sample=cut,
            speech_samples=sum(spoken) * self._frame,
            speech_end_sample=self.now_sample - spoken[::-1].index(True) * self._frame,
            continuation=True,
        )
        return [closed, self._begin(segment, rest)]

    def _hangover(self, length: int) -> float:
        config = self._config
        over_s = length / SAMPLE_RATE_HZ - config.soft_max_s
        share = min(1.0, max(0.0, over_s / (config.max_s - config.soft_max_s)))
        hangover_s = config.hangover_s - share * (config.hangover_s - config.min_hangover_s)
        return hangover_s * SAMPLE_RATE_HZ
