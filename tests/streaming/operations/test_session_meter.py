"""One session's latencies and counts, on a clock that the test turns."""

from __future__ import annotations

import numpy as np
import pytest

from a2p_engine.types import StepRequest
from streaming.events import (
    EndReason,
    Error,
    Final,
    GlossaryUpdated,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from streaming.operations.metrics import Metrics
from streaming.operations.session_meter import MAX_AWAITED, SessionMeter
from streaming.scheduling.schedule import Kind


class Session:
    """A meter, the clock it reads and the metrics it writes."""

    def __init__(self, partial_interval_s: float = 0.5) -> None:
        self.now_s = 100.0
        self.metrics = Metrics()
        self.meter = SessionMeter(
            self.metrics, "native", partial_interval_s, clock=lambda: self.now_s
        )

    def hear(self, duration_s: float, chunk_s: float = 0.1) -> None:
        """Audio that arrives as it is spoken, in chunks."""
        for _ in range(round(duration_s / chunk_s)):
            self.now_s += chunk_s
            self.meter.audio_arrived(round(chunk_s * 16_000))

    def value(self, name: str, **labels: str) -> float:
        """A sample of the metrics; 0 before the first."""
        return self.metrics.registry.get_sample_value(f"a2p_{name}", labels) or 0.0


def started(segment: int, at_s: float) -> SpeechStarted:
    """Speech that began at a second of the audio."""
    return SpeechStarted(segment_id=segment, time_sample=round(at_s * 16_000))


def stopped(segment: int, at_s: float) -> SpeechStopped:
    """Speech that ended at a second of the audio."""
    return SpeechStopped(segment_id=segment, time_sample=round(at_s * 16_000))


def partial(segment: int, text: str) -> Partial:
    """A partial without times."""
    return Partial(
        segment_id=segment, revision=1, start_sample=0, end_sample=0, committed="", volatile=text
    )


def final(segment: int, text: str, reason: EndReason = "endpoint") -> Final:
    """A final without times."""
    return Final(
        segment_id=segment,
        revision=2,
        start_sample=0,
        end_sample=0,
        text=text,
        language="en",
        reason=reason,
    )


def step(segment: int, audio_s: float, kind: Kind = Kind.PARTIAL) -> tuple[Kind, StepRequest]:
    """What a step is for, and its request with so much new audio."""
    audio = np.zeros(round(audio_s * 16_000), np.float32)
    final = kind is Kind.FINAL
    request = StepRequest(
        session="s", segment_id=segment, start_sample=0, samples=audio, final=final, committed=""
    )
    return kind, request


def test_latencies_count_from_the_arrival_of_speech() -> None:
    """First words count from the first speech, the final from the last, each where it arrived."""
    session = Session()
    session.hear(0.5)
    session.hear(0.4)
    session.meter.told(started(1, 0.5))  # its chunk arrived at 0.6
    session.now_s += 0.2
    session.meter.told(partial(1, " ... "))  # says nothing yet
    session.meter.told(partial(1, "hello"))
    session.meter.told(partial(1, "hello there"))
    session.hear(1.0)
    session.meter.told(stopped(1, 1.4))  # its end arrived at 1.4, and 0.2 s more passed above
    session.now_s += 0.3
    session.meter.told(final(1, "hello there"))
    assert session.value("first_partial_latency_seconds_count") == 1
    assert session.value("first_partial_latency_seconds_sum") == pytest.approx(0.9 + 0.2 - 0.6)
    assert session.value("final_latency_seconds_count") == 1
    assert session.value("final_latency_seconds_sum") == pytest.approx(2.1 + 0.3 - 1.6)
    assert session.value("events_total", type="partial") == 3


def test_a_final_without_partials_has_the_first_words() -> None:
    """Whoever wants no partials waits for the final."""
    session = Session()
    session.hear(1.0)
    session.meter.told(started(1, 0.0))
    session.meter.told(stopped(1, 0.9))
    session.meter.told(final(1, "yes"))
    assert session.value("first_partial_latency_seconds_sum") == pytest.approx(0.9)
    assert session.value("final_latency_seconds_sum") == pytest.approx(0.1)


@pytest.mark.parametrize(("text", "reason"), [("", "endpoint"), ("and on", "max_length")])
def test_what_is_no_latency(text: str, reason: EndReason) -> None:
    """A segment without words has no first ones; one that was cut did not end with speech."""
    session = Session()
    session.hear(1.0)
    session.meter.told(started(1, 0.0))
    session.meter.told(stopped(1, 0.9))
    session.meter.told(final(1, text, reason))
    assert session.value("first_partial_latency_seconds_count") == bool(text)
    assert session.value("final_latency_seconds_count") == (reason == "endpoint")


def test_tiny_messages_do_not_push_out_what_is_needed() -> None:
    """A client that sends sample by sample has the same latencies."""
    session = Session()
    for _ in range(32_000):
        session.now_s += 1 / 16_000
        session.meter.audio_arrived(1)
    session.meter.told(started(1, 0.5))
    session.meter.told(partial(1, "hello"))
    assert session.value("first_partial_latency_seconds_sum") == pytest.approx(1.5, abs=0.011)
    assert session.value("audio_seconds_total") == pytest.approx(2.0)


def test_segments_without_a_final_are_forgotten() -> None:
    """An hour of noise does not fill the memory."""
    session = Session()
    for segment in range(1000):
        session.meter.told(started(segment, 0.0))
        session.meter.told(stopped(segment, 0.0))
    assert len(session.meter._began) == len(session.meter._stopped) == MAX_AWAITED
    session.meter.told(final(1000, "at last"))
    assert not session.meter._began and not session.meter._stopped


def test_steps_are_timed_by_kind_and_stage() -> None:
    """Waiting, the whole and each stage; stages that are not listed share a name."""
    session = Session()
    session.meter.watch(lambda: 8_000)
    session.meter.step_due()
    session.now_s += 0.25
    session.meter.step_began(*step(1, 1.0, Kind.FINAL))
    session.now_s += 0.5
    session.meter.step_done({"encode": 300.0, "retrieve": 50.0, "dream": 7.0})
    session.meter.step_due()
    session.meter.step_began(*step(2, 1.0))
    session.meter.step_failed()
    assert session.value("step_wait_seconds_sum", kind="final") == pytest.approx(0.25)
    assert session.value("step_seconds_sum", kind="final") == pytest.approx(0.5)
    assert session.value("step_stage_seconds_sum", stage="retrieve") == pytest.approx(0.05)
    assert session.value("step_stage_seconds_sum", stage="other") == pytest.approx(0.007)
    assert session.value("step_seconds_count", kind="partial") == 0
    assert session.value("step_failures_total") == 1
    assert session.value("session_lag_seconds_sum") == pytest.approx(0.5)


def test_thinned_partials_are_counted() -> None:
    """Each interval that passes without a step counts; the first step of a segment may be late."""
    session = Session(partial_interval_s=0.5)
    for request in (
        step(1, 2.0),
        step(1, 0.5),
        step(1, 1.7),
        step(1, 3.0, Kind.PAUSE),
        step(1, 3.0, Kind.FINAL),
    ):
        session.meter.step_due()
        session.meter.step_began(*request)
    assert session.value("partials_thinned_total") == 2
    silent = Session(partial_interval_s=float("inf"))
    silent.meter.step_began(*step(1, 1.0))
    silent.meter.step_began(*step(1, 5.0))
    assert silent.value("partials_thinned_total") == 0


def test_open_sessions_and_their_lag() -> None:
    """Sessions count while they are open, once; the greatest lag is that of an open one."""
    session = Session()
    other = SessionMeter(session.metrics, "vosk", 0.5)
    session.meter.watch(lambda: 16_000)
    other.watch(lambda: 48_000)
    assert session.value("session_lag_max_seconds") == 3.0
    assert session.value("sessions_open", dialect="vosk") == 1
    other.close()
    other.close()
    assert session.value("session_lag_max_seconds") == 1.0
    assert session.value("sessions_open", dialect="vosk") == 0
    assert session.value("sessions_open", dialect="native") == 1
    assert session.value("sessions_total", dialect="vosk") == 1


def test_errors_and_glossaries_are_counted() -> None:
    """Errors by code, glossaries by size."""
    session = Session()
    session.meter.told(Error(code="model_failed", message="no", fatal=False))
    session.meter.told(
        GlossaryUpdated(version=2, terms=300, added=1, removed=0, audio_time_sample=0)
    )
    assert session.value("errors_total", code="model_failed") == 1
    assert session.value("session_glossary_terms_bucket", le="100.0") == 0
    assert session.value("session_glossary_terms_bucket", le="1000.0") == 1
