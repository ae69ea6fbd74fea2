"""What the server counts and times, in Prometheus' terms; docs/operations.md explains each metric.

One ``Metrics`` belongs to one server: a process may run several, so nothing is global. Labels take
values from short fixed lists only; names of sessions, keys, glossaries of clients and terms are
never among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sized
from importlib import metadata
from typing import NamedTuple
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder

# The targets (0.7, 1.2 and 2 s) are bounds, so that a share within them can be read off exactly.
LATENCY_BUCKETS_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.2, 1.5, 2, 3, 5, 8, 15, 30)
STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5)
LAG_BUCKETS_S = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 15, 30, 60)
TERM_BUCKETS = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
STAGES = ("encode", "retrieve", "decode", "guard")
OTHER = "other"  # what a label with a fixed list says of anything else


class Gauges(NamedTuple):
    """State that is read when somebody asks for the metrics.

    Attributes:
        max_sessions: places for sessions.
        draining: whether the server takes no new sessions.
        load: share of the workers' time that finals and pauses take.
        steps_waiting: sessions that wait for a place for their step.
        steps_running: steps at the engine.
    """

    max_sessions: Callable[[], float]
    draining: Callable[[], bool]
    load: Callable[[], float]
    steps_waiting: Callable[[], float]
    steps_running: Callable[[], float]


class Metrics:
    """All metrics of a server; whoever notices something calls the method that is named after it.

    Attributes:
        registry: holds this server's metrics and those of the process (memory, CPU, open files).
        lags_s: tells of each open session how much of its audio is unheard, in seconds.
        outboxes: of all clients, for their lengths.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lags_s: set[Callable[[], float]] = set()
        self.outboxes: WeakSet[Sized] = WeakSet()
        self._count_sessions()
        self._time_captions()
        self._time_steps()
        self._measure_queues()
        ProcessCollector(registry=self.registry)

    def _count_sessions(self) -> None:
        self._open = self._gauge("sessions_open", "Sessions open at present.", ["dialect"])
        self._opened = self._counter("sessions", "Sessions opened.", ["dialect"])
        self._refused = self._counter(
            "sessions_refused", "Connections that ended before they had a session.", ["reason"]
        )
        self._ended = self._counter(
            "connections_ended", "Connections that had a session, by how they ended.", ["outcome"]
        )
        self._audio = self._counter("audio_seconds", "Audio received.")
        self._events = self._counter("events", "Events told by sessions.", ["type"])
        self._errors = self._counter("errors", "Errors told to clients.", ["code"])
        self._terms = self._histogram(
            "session_glossary_terms", "Terms of a session's glossary.", TERM_BUCKETS
        )
        self._glossary = self._gauge(
            "glossary_terms", "Terms of the server's own glossaries.", ["glossary"]
        )

    def _time_captions(self) -> None:
        self.first_partial_s = self._histogram(
            "first_partial_latency_seconds",
            "From the arrival of a segment's first speech to its first words.",
            LATENCY_BUCKETS_S,
        )
        self.final_s = self._histogram(
            "final_latency_seconds",
            "From the arrival of a segment's last speech to its final.",
            LATENCY_BUCKETS_S,
        )
        self.lag_s = self._histogram(
            "session_lag_seconds", "Audio that was unheard after a step.", LAG_BUCKETS_S
        )
        lag_max = self._gauge(
            "session_lag_max_seconds", "Audio unheard in the session behind most."
        )
        lag_max.set_function(lambda: max((lag() for lag in self.lags_s), default=0.0))

    def _time_steps(self) -> None:
        self._stage = self._histogram(
            "step_stage_seconds", "Time of a stage in a step.", STEP_BUCKETS_S, ["stage"]
        )
        self._step = self._histogram(
            "step_seconds", "Time of a whole step of the engine.", STEP_BUCKETS_S, ["kind"]
        )
        self._wait = self._histogram(
            "step_wait_seconds", "Time that a step waited for its turn.", STEP_BUCKETS_S, ["kind"]
        )
        self._failures = self._counter("step_failures", "Steps in which the engine failed.")
        self._thinned = self._counter(
            "partials_thinned", "Partials that were due and left out, as the engine was busy."
        )

    def _measure_queues(self) -> None:
        self._dropped = self._counter(
            "events_dropped", "Events that a client was too slow to be sent.", ["reason"]
        )
        unsent = self._gauge("outbox_events", "Events that wait to be sent, over all clients.")
        unsent.set_function(lambda: sum(map(len, self.outboxes)))
        most = self._gauge("outbox_events_max", "Events that wait for the slowest client.")
        most.set_function(lambda: max(map(len, self.outboxes), default=0))

    # What happens

    def session_opened(self, dialect: str) -> None:
        """A session has begun."""
        self._opened.labels(dialect).inc()
        self._open.labels(dialect).inc()

    def session_closed(self, dialect: str) -> None:
        """A session is over, in whatever way."""
        self._open.labels(dialect).dec()

    def session_refused(self, reason: str) -> None:
        """A connection ended without having had a session; ``reason`` is a wire code."""
        self._refused.labels(reason).inc()

    def connection_ended(self, outcome: str) -> None:
        """A connection with a session ended: ``ok``, ``client_left`` or a wire code."""
        self._ended.labels(outcome).inc()

    def audio_received(self, duration_s: float) -> None:
        """A client's audio has arrived."""
        self._audio.inc(duration_s)

    def event_told(self, kind: str) -> None:
        """A session has told an event."""
        self._events.labels(kind).inc()

    def error_told(self, code: str) -> None:
        """A session has told of an error."""
        self._errors.labels(code).inc()

    def event_dropped(self, reason: str) -> None:
        """An outbox has dropped an event: ``superseded`` by a newer one, or ``overflow``."""
        self._dropped.labels(reason).inc()

    def step_began(self, kind: str, waited_s: float) -> None:
        """A step has its turn; ``kind`` is what it is for, by the name of a ``schedule.Kind``."""
        self._wait.labels(kind).observe(waited_s)

    def step_done(self, kind: str, took_s: float, timings_ms: Mapping[str, float]) -> None:
        """A step has ended; ``timings_ms`` is its time by stage."""
        self._step.labels(kind).observe(took_s)
        for stage, took_ms in timings_ms.items():
            self._stage.labels(stage if stage in STAGES else OTHER).observe(took_ms / 1000)

    def step_failed(self) -> None:
        """The engine has failed in a step."""
        self._failures.inc()

    def partials_thinned(self, number: int) -> None:
        """So many partials were due but left out."""
        self._thinned.inc(number)

    def glossary_in_force(self, terms: int) -> None:
        """A session has begun with, or was given, a glossary of so many terms."""
        self._terms.observe(terms)

    # What is

    def watch(self, gauges: Gauges) -> None:
        """Read these gauges whenever the metrics are asked for; once per server."""
        for name, documentation in (
            ("max_sessions", "Places for sessions."),
            ("draining", "1 while the server takes no new sessions."),
            ("load_ratio", "Share of the workers' time that finals and pauses take."),
            ("steps_waiting", "Steps that wait for their turn."),
            ("steps_running", "Steps at the engine."),
        ):
            read = getattr(gauges, name.removesuffix("_ratio"))
            self._gauge(name, documentation).set_function(read)

    def describe(self, speech_llm: str, glossaries: Mapping[str, Sized]) -> None:
        """Tell what is served; the glossaries are those that the operator has named."""
        info = Info("a2p_server", "What is served.", registry=self.registry)
        info.info({"version": metadata.version("a2p-live"), "speech_llm": speech_llm})
        for name, terms in glossaries.items():
            self._glossary.labels(name).set(len(terms))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, in the format that an ``Accept`` header asks for, and its type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _counter(self, name: str, documentation: str, labels: Collection[str] = ()) -> Counter:
        return Counter(f"a2p_{name}", documentation, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: Collection[str] = ()) -> Gauge:
        return Gauge(f"a2p_{name}", documentation, tuple(labels), registry=self.registry)

    def _histogram(
        self,
        name: str,
        documentation: str,
        buckets: Collection[float],
        labels: Collection[str] = (),
    ) -> Histogram:
        return Histogram(
            f"a2p_{name}",
            documentation,
            tuple(labels),
            buckets=tuple(buckets),
            registry=self.registry,
        )
