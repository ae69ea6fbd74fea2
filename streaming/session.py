"""One captioning session: audio in, engine requests out, results in, events out.

``SessionCore`` does no I/O, has no clock and runs no model, so the server, the offline
``transcribe`` and the tests drive the very same code:

    events = core.receive_audio(samples)
    while request := core.next_request():
        events += core.receive_result(engine.step(request))

Segments wait in line. The first in line is the only one the engine works on: partials while it is
still being spoken, then its final. A final needs no step of its own when the latest step has
already heard all of its speech, which is the rule: every pause is decoded as soon as it is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from a2p_engine.errors import ModelUnavailable
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, StepRequest, StepResult
from streaming.audio.pcm import AudioBuffer
from streaming.errors import error_event
from streaming.events import (
    EndReason,
    Event,
    Final,
    Flushed,
    Partial,
    SessionEnded,
    SpeechStarted,
    SpeechStopped,
)
from streaming.listener import Listener
from streaming.scheduling.schedule import Kind
from streaming.segmenter import (
    Boundary,
    Closed,
    Opened,
    OpenSegment,
    Segmenter,
    SegmenterConfig,
    samples,
)
from streaming.stabiliser import Stabiliser
from streaming.vad.base import VoiceActivityDetector

# One slow step (a cold start, a busy moment) must not silence a speaker for long.
MAX_THINNED_S = 2.0
# After the end of speech a final should be there; half of it is the usual wait for the endpoint.
FINAL_WITHIN_S = 1.0


class Wanted(NamedTuple):
    """The step a session waits for, and the audio it should be there with, a sample index."""

    kind: Kind
    by_sample: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionConfig:
    """When a session asks the engine and what it tells.

    Attributes:
        partials: whether partials are wanted at all.
        partial_interval_s: new audio between two partials.
        partial_load: share of the time that partials may keep the engine busy; on a slow machine
            they come less often, so that a final seldom waits for a partial's step to end.
        first_partial_s: speech before the first partial of a segment. Models guess then, but not
            better after twice as much; what they guess is volatile.
        max_words_per_s: a hypothesis with more words for its audio is a model repeating itself,
            which short audio invites; it makes no partial.
        pause_s: non-speech after which the segment is decoded at once, in case it is over.
        tail_s: audio behind the last speech that a step must have heard to count as complete.
        words: whether finals carry their words.
    """

    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    partials: bool = True
    partial_interval_s: float = 0.5
    partial_load: float = 0.5
    first_partial_s: float = 0.3
    max_words_per_s: float = 8.0
    pause_s: float = 0.2
    tail_s: float = 0.1
    words: bool = True


@dataclass(kw_only=True, slots=True)
class _Segment:
    """A segment in line.

    Attributes:
        end: None while it is being spoken.
        sent: index up to which its audio was given to the engine.
        heard: index up to which a finished step covers it.
        stale: the glossary has changed since the latest step.
        failed: the engine could not work on it; what was shown stays.
        concluding: the latest request was for its final.
    """

    segment_id: int
    start: int
    stabiliser: Stabiliser
    sent: int
    heard: int
    end: int | None = None
    speech_end: int = 0
    reason: EndReason = "endpoint"
    keep: bool = True
    stale: bool = False
    failed: bool = False
    concluding: bool = False
    result: StepResult | None = None
    shown: Partial | None = None


class SessionCore:
    """Audio in, engine requests out, results in, events out. No I/O, no clock, no model.

    Attributes:
        listener: turns audio into speech probabilities; a shell that runs it elsewhere (it is the
            only costly part) gives both to ``receive_heard`` instead of calling ``receive_audio``.
        timings_ms: wall time by stage of the latest step.
    """

    def __init__(self, handle: str, config: SessionConfig, vad: VoiceActivityDetector) -> None:
        self.listener = Listener(vad)
        self.timings_ms: dict[str, float] = {}
        self._handle = handle
        self._config = config
        self._segmenter = Segmenter(config.segmenter, vad.frame_samples)
        self._buffer = AudioBuffer()
        self._line: list[_Segment] = []
        self._in_flight: _Segment | None = None
        self._last_id = 0
        self._flushes: list[int] = []  # last segment that each unanswered flush waits for
        self._finishing = False
        self._ended = False

    # What comes in

    def receive_audio(self, audio: Samples) -> list[Event]:
        """Take float32 [n] audio at 16 kHz, in pieces of any size."""
        return self.receive_heard(audio, self.listener.hear(audio))

    def receive_heard(self, audio: Samples, probabilities: list[float]) -> list[Event]:
        """Take audio together with what the listener made of it; ignored after ``finish``."""
        if self._finishing:
            return []
        self._buffer.append(audio)
        events = self._follow(probabilities)
        needed = [segment.sent for segment in self._line]
        self._buffer.forget(min([self._segmenter.earliest_start_sample, *needed]))
        return events

    def receive_result(self, result: StepResult) -> list[Event]:
        """Take what the engine made of the latest request."""
        segment, self._in_flight = self._in_flight, None
        if segment is None or segment.segment_id != result.segment_id:
            raise ValueError(f"no request is open for segment {result.segment_id}")
        self.timings_ms = dict(result.timings_ms)
        segment.result, segment.heard = result, segment.sent
        segment.stabiliser.update(result.text, result.words, segment.sent)
        events = self._settle()
        return self._partial(segment, result) + events if segment in self._line else events

    def step_failed(self, error: Exception) -> list[Event]:
        """Take the engine's failure on the latest request: it costs that segment its rest.

        A model that was only late costs a partial: the next step hears the whole segment again.
        """
        segment, self._in_flight = self._in_flight, None
        if segment is None:
            raise ValueError("no request is open")
        if isinstance(error, ModelUnavailable) and not segment.concluding:
            return self._settle()
        segment.failed = True
        failure = replace(error_event(error, fatal=False), segment_id=segment.segment_id)
        return [failure, *self._settle()]

    def glossary_changed(self) -> None:
        """Have everything that has no final yet decoded with the new glossary."""
        for segment in self._line:
            segment.stale = True

    def flush(self) -> list[Event]:
        """End the open segment now; ``flushed`` comes once everything said so far has its final."""
        events = self._apply(self._segmenter.flush("flush"))
        self._flushes.append(self._last_id)
        return events + self._settle()

    def discard(self, *, ended: bool = True) -> list[Event]:
        """Forget speech since the last flush that has no final; what was shown gets an empty one.

        Args:
            ended: also segments that have ended already, not only the one being spoken.
        """
        flushed = self._flushes[-1] if self._flushes else 0
        for segment in self._line:
            if ended and segment.end is not None and segment.segment_id > flushed:
                segment.keep = False
        spoken = self._segmenter.flush("flush")
        closed = [replace(end, keep=False) for end in spoken if isinstance(end, Closed)]
        return self._apply(closed) + self._settle()

    def finish(self) -> list[Event]:
        """End of audio: no more is accepted; ``session.ended`` comes after the last final."""
        if self._finishing:
            return []
        events = self._follow(self.listener.finish())
        self._finishing = True
        events += self._apply(self._segmenter.flush("stop"))
        return events + self._settle()

    # What goes to the engine

    def next_request(self) -> StepRequest | None:
        """The most urgent work, or None when there is none or a request is still open."""
        end = self._next_end()
        if end is None:
            return None
        segment = self._in_flight = self._line[0]
        fresh = self._buffer.read(segment.sent, end)
        segment.sent, segment.stale = end, False
        segment.concluding = segment.end is not None
        return StepRequest(
            session=self._handle,
            segment_id=segment.segment_id,
            start_sample=segment.start,
            samples=fresh,
            final=segment.end is not None,
            committed=segment.stabiliser.committed,
        )

    # How it stands

    @property
    def ready(self) -> bool:
        """Whether ``next_request`` has work."""
        return self._next_end() is not None

    @property
    def wanted(self) -> Wanted | None:
        """What ``next_request`` would be for."""
        if not self.ready:
            return None
        segment, spoken = self._line[0], self._segmenter.open
        if segment.end is not None:
            return Wanted(Kind.FINAL, segment.speech_end + samples(FINAL_WITHIN_S))
        assert spoken is not None  # otherwise nothing is ready
        if self._pausing(spoken):
            return Wanted(Kind.PAUSE, spoken.speech_end_sample + samples(FINAL_WITHIN_S))
        interval = samples(self._config.partial_interval_s)
        return Wanted(Kind.PARTIAL, max(segment.sent, spoken.onset_sample) + 2 * interval)

    @property
    def idle(self) -> bool:
        """Whether nothing is open, waiting or at the engine."""
        return not self._line and self._in_flight is None

    @property
    def working(self) -> bool:
        """Whether the engine has or could have work."""
        return self._in_flight is not None or self.ready

    @property
    def finishing(self) -> bool:
        """Whether the audio has ended."""
        return self._finishing

    @property
    def ended(self) -> bool:
        """Whether ``session.ended`` has been told."""
        return self._ended

    @property
    def audio_samples(self) -> int:
        """Audio received."""
        return self._buffer.end

    @property
    def lag_samples(self) -> int:
        """Audio received but not yet covered by a finished step; silence counts as covered."""
        return self._buffer.end - self._line[0].heard if self._line else 0

    def _next_end(self) -> int | None:
        """Index up to which the engine should hear the first segment in line now."""
        if self._in_flight is not None or not self._line:
            return None
        segment, spoken = self._line[0], self._segmenter.open
        if segment.end is not None:
            return segment.end
        if segment.failed or spoken is None:
            return None
        end = self._segmenter.settled_sample
        if segment.stale and segment.result is not None:
            return end
        fresh = end - segment.sent
        covered = segment.sent >= spoken.speech_end_sample + samples(self._config.tail_s)
        return end if fresh > 0 and not covered and self._due(segment, spoken, fresh) else None

    def _due(self, segment: _Segment, spoken: OpenSegment, fresh: int) -> bool:
        """Whether an open segment with ``fresh`` unheard samples should be decoded now."""
        config = self._config
        if self._pausing(spoken):
            return spoken.speech_samples >= samples(config.segmenter.min_speech_s)
        if not config.partials or segment.sent >= spoken.speech_end_sample:
            return False
        if segment.sent == segment.start:
            return spoken.speech_samples >= samples(config.first_partial_s)
        interval_s = config.partial_interval_s
        if segment.shown is None:  # the viewer still waits
            interval_s = min(interval_s, config.first_partial_s)
        step_s = sum(self.timings_ms.values()) / 1000
        thinned_s = min(step_s / config.partial_load, MAX_THINNED_S)
        return fresh >= samples(max(interval_s, thinned_s))

    def _pausing(self, spoken: OpenSegment) -> bool:
        silence = self._segmenter.now_sample - spoken.speech_end_sample
        return silence >= samples(self._config.pause_s)

    # What comes out

    def _follow(self, probabilities: list[float]) -> list[Event]:
        events: list[Event] = []
        for probability in probabilities:
            events += self._apply(self._segmenter.push(probability))
        return events

    def _apply(self, boundaries: Sequence[Boundary]) -> list[Event]:
        events: list[Event] = []
        for boundary in boundaries:
            if isinstance(boundary, Opened):
                events.append(self._open(boundary))
                continue
            segment = self._line[-1]
            segment.end = min(boundary.end_sample, self._buffer.end)
            segment.speech_end = min(boundary.speech_end_sample, segment.end)
            segment.reason, segment.keep = boundary.reason, boundary.keep
            stopped = SpeechStopped(segment_id=segment.segment_id, time_sample=segment.speech_end)
            events += [stopped, *self._settle()]
        return events

    def _open(self, opened: Opened) -> Event:
        hold_back = samples(self._config.segmenter.hold_back_s)
        segment = _Segment(
            segment_id=opened.segment_id,
            start=opened.start_sample,
            stabiliser=Stabiliser(hold_back),
            sent=opened.start_sample,
            heard=opened.start_sample,
        )
        self._line.append(segment)
        self._last_id = opened.segment_id
        return SpeechStarted(segment_id=opened.segment_id, time_sample=opened.onset_sample)

    def _settle(self) -> list[Event]:
        """Conclude segments that need no more of the engine, in order."""
        events: list[Event] = []
        while self._line and self._line[0] is not self._in_flight and self._complete(self._line[0]):
            events += self._conclude(self._line.pop(0))
        while self._flushes and (not self._line or self._line[0].segment_id > self._flushes[0]):
            del self._flushes[0]
            events.append(Flushed())
        if self._finishing and self.idle and not self._ended:
            self._ended = True
            events.append(SessionEnded(audio_samples=self._buffer.end))
        return events

    def _complete(self, segment: _Segment) -> bool:
        if segment.end is None:
            return False
        needed = min(segment.end, segment.speech_end + samples(self._config.tail_s))
        heard = segment.heard >= needed and not segment.stale
        return heard or segment.failed or not segment.keep

    def _conclude(self, segment: _Segment) -> list[Event]:
        """The segment's final; none when there never was any text."""
        text = segment.stabiliser.finish() if segment.keep else ""
        if not text and segment.shown is None:
            return []
        result, shown = segment.result, segment.shown
        assert result is not None and segment.end is not None  # there is text, and it is complete
        final = Final(
            segment_id=segment.segment_id,
            revision=shown.revision + 1 if shown else 1,
            start_sample=segment.start,
            end_sample=segment.end,
            text=text,
            language=result.language,
            reason=segment.reason,
            words=result.words if text and self._config.words else (),
            terms=result.terms if text else (),
            speech_end_sample=segment.speech_end,
            source=result.source if text else None,
        )
        return [final]

    def _babbles(self, segment: _Segment) -> bool:
        heard_s = (segment.heard - segment.start) / SAMPLE_RATE_HZ
        assert segment.result is not None  # it has just come
        return len(segment.result.words) > 1 + self._config.max_words_per_s * heard_s

    def _partial(self, segment: _Segment, result: StepResult) -> list[Event]:
        """A partial, unless it would tell nothing new."""
        shown, stabiliser = segment.shown, segment.stabiliser
        told = (shown.committed, shown.volatile, shown.terms, shown.source) if shown else None
        says = (stabiliser.committed, stabiliser.volatile, result.terms, result.source)
        nothing_yet = shown is None and not stabiliser.text
        if not self._config.partials or nothing_yet or says == told or self._babbles(segment):
            return []
        segment.shown = Partial(
            segment_id=segment.segment_id,
            revision=shown.revision + 1 if shown else 1,
            start_sample=segment.start,
            end_sample=segment.sent,
            committed=stabiliser.committed,
            volatile=stabiliser.volatile,
            terms=result.terms,
            words=result.words,
            language=result.language,
            source=result.source,
        )
        return [segment.shown]
