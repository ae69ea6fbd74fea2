"""Times one session as its listeners live through it.

Latencies are defined as in ``streaming.evaluation.live``, seen from the server: a sample counts as
spoken when it arrives, so the way over the network is not in them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from a2p_engine.text import plain
from a2p_engine.types import SAMPLE_RATE_HZ, StepRequest
from streaming.events import (
    Error,
    Event,
    Final,
    GlossaryUpdated,
    Partial,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
)
from streaming.operations.metrics import Metrics
from streaming.scheduling.schedule import Kind

# Speech is looked up as soon as it is detected, within seconds of its arrival. Arrivals closer
# together than the resolution count as one, so tiny messages cannot push out what is still needed.
KEPT_ARRIVALS = 1024
RESOLUTION_S = 0.01
MAX_AWAITED = 64  # segments without a final yet; noise never gets one


class SessionMeter:
    """Turns what happens in one session into metrics; the runner calls it."""

    def __init__(
        self,
        metrics: Metrics,
        dialect: str,
        partial_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count the session as open.

        Args:
            metrics: of the server.
            dialect: the wire protocol's name.
            partial_interval_s: how often the client wants partials; infinite for none.
            clock: seconds that never go back.
        """
        self._metrics = metrics
        self._dialect = dialect
        self._interval_s = partial_interval_s
        self._clock = clock
        self._samples = 0
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=KEPT_ARRIVALS)  # (end, time)
        self._began: dict[int, float] = {}  # by segment, while it has no words
        self._stopped: dict[int, float] = {}  # by segment, while it has no final
        self._stepped_segment = 0
        self._kind = "partial"
        self._since_s = 0.0
        self._lag_s: Callable[[], float] = lambda: 0.0
        self._open = True
        metrics.session_opened(dialect)

    def watch(self, lag_samples: Callable[[], int]) -> None:
        """Ask here how much audio is unheard."""
        self._lag_s = lambda: lag_samples() / SAMPLE_RATE_HZ
        self._metrics.lags_s.add(self._lag_s)

    def close(self) -> None:
        """The session is over; closing twice is harmless."""
        if self._open:
            self._open = False
            self._metrics.lags_s.discard(self._lag_s)
            self._metrics.session_closed(self._dialect)

    def audio_arrived(self, samples: int) -> None:
        """So many samples at 16 kHz have come out of what the client sent."""
        if not samples:
            return
        now_s = self._clock()
        self._samples += samples
        self._metrics.audio_received(samples / SAMPLE_RATE_HZ)
        if self._arrivals and now_s - self._arrivals[-1][1] < RESOLUTION_S:
            now_s = self._arrivals.pop()[1]
        self._arrivals.append((self._samples, now_s))

    def step_due(self) -> None:
        """A step asks for its turn."""
        self._since_s = self._clock()

    def step_began(self, kind: Kind, request: StepRequest) -> None:
        """The step has its turn."""
        now_s = self._clock()
        self._kind = kind.name.lower()
        self._metrics.step_began(self._kind, now_s - self._since_s)
        self._since_s = now_s
        if kind is Kind.PARTIAL and request.segment_id == self._stepped_segment:
            intervals = len(request.samples) / SAMPLE_RATE_HZ / self._interval_s
            self._metrics.partials_thinned(max(0, int(intervals) - 1))
        self._stepped_segment = request.segment_id

    def step_done(self, timings_ms: Mapping[str, float]) -> None:
        """The step has a result."""
        self._metrics.step_done(self._kind, self._clock() - self._since_s, timings_ms)
        self._metrics.lag_s.observe(self._lag_s())

    def step_failed(self) -> None:
        """The step has none."""
        self._metrics.step_failed()

    def told(self, event: Event) -> None:
        """The session tells an event."""
        self._metrics.event_told(event.type)
        match event:
            case SpeechStarted(segment_id=segment, time_sample=sample):
                self._await(self._began, segment, sample)
            case SpeechStopped(segment_id=segment, time_sample=sample):
                self._await(self._stopped, segment, sample - 1)  # the last one of the speech
            case Partial(segment_id=segment):
                self._words(segment, event.committed + event.volatile)
            case Final():
                self._final(event)
            case Error(code=code):
                self._metrics.error_told(code)
            case SessionStarted(glossary_terms=terms) | GlossaryUpdated(terms=terms):
                self._metrics.glossary_in_force(terms)

    def _await(self, awaited: dict[int, float], segment: int, sample: int) -> None:
        awaited[segment] = self._arrived_s(sample)
        if len(awaited) > MAX_AWAITED:
            del awaited[next(iter(awaited))]

    def _arrived_s(self, sample: int) -> float:
        """When the sample arrived."""
        found_s = self._clock()
        for end, at_s in reversed(self._arrivals):
            if end <= sample:
                break
            found_s = at_s
        return found_s

    def _words(self, segment: int, text: str) -> None:
        if segment in self._began and plain(text).split():
            self._metrics.first_partial_s.observe(self._clock() - self._began.pop(segment))

    def _final(self, final: Final) -> None:
        self._words(final.segment_id, final.text)
        stopped_s = self._stopped.get(final.segment_id)
        # A segment that was cut for its length ends while the speaker goes on.
        if stopped_s is not None and final.reason != "max_length":
            self._metrics.final_s.observe(self._clock() - stopped_s)
        for awaited in (self._began, self._stopped):
            for segment in [key for key in awaited if key <= final.segment_id]:
                del awaited[segment]
