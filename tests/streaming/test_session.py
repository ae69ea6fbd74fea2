"""The session core, driven without clock, sockets or model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.errors import ModelError, ModelUnavailable
from a2p_engine.types import Samples, SessionOptions, Source, StepRequest, StepResult, Word
from streaming.events import (
    Error,
    Event,
    Final,
    Flushed,
    Partial,
    SessionEnded,
    SpeechStarted,
    SpeechStopped,
)
from streaming.scheduling.schedule import Kind
from streaming.segmenter import SegmenterConfig, samples
from streaming.session import FINAL_WITHIN_S, SessionConfig, SessionCore, Wanted
from streaming.vad.energy import EnergyDetector
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import silence, tone


def core_with(engine: FakeEngine, **config: object) -> SessionCore:
    """A core whose session is open at the engine."""
    handle, _ = engine.open(SessionOptions())
    return SessionCore(handle, SessionConfig(**config), EnergyDetector())  # type: ignore[arg-type]


def work(core: SessionCore, engine: FakeEngine) -> list[Event]:
    """Everything the engine makes of what is waiting."""
    events: list[Event] = []
    while request := core.next_request():
        events += core.receive_result(engine.step(request))
    return events


def play(core: SessionCore, engine: FakeEngine, audio: Samples, block_s: float) -> list[Event]:
    """Stream audio in blocks to the end, with an engine that takes no time."""
    events, block = [], samples(block_s)
    for at in range(0, len(audio), block):
        events += core.receive_audio(audio[at : at + block])
        events += work(core, engine)
    return events + core.finish() + work(core, engine)


def test_a_translation_is_told_with_what_was_said() -> None:
    """Partials and finals carry the transcript; without the option there is none."""
    for wanted in (True, False):
        engine = FakeEngine()
        handle, _ = engine.open(SessionOptions(task="translate", source_text=wanted))
        core = SessionCore(handle, SessionConfig(), EnergyDetector())
        events = play(core, engine, np.concatenate([tone(2), silence(1)]), 0.1)
        (final,) = finals(events)
        *_, last = [event for event in events if isinstance(event, Partial)]
        if wanted:
            assert final.source and last.source and final.source.language == "es"
            assert final.source.text == f"{len(final.text.split())} palabras"
        else:
            assert final.source is last.source is None


def test_a_changed_transcript_is_news() -> None:
    """A partial follows though the translation has stayed the same."""
    engine = FakeEngine()
    core = core_with(engine, partial_interval_s=0.1)
    events = core.receive_audio(tone(1))
    shown = []
    for said in ("Mi", "Mi hermano", "Mi hermano"):
        request = core.next_request()
        assert request is not None
        source = Source(text=said, language="es")
        events = core.receive_result(replace(answer(request, "My"), source=source))
        shown.append([event.source.text for event in events if isinstance(event, Partial)])
        core.receive_audio(tone(0.3))
    assert shown == [["Mi"], ["Mi hermano"], []]


def finals(events: list[Event]) -> list[Final]:
    """The finals among events."""
    return [event for event in events if isinstance(event, Final)]


def answer(request: StepRequest, text: str) -> StepResult:
    """A result with the given text, words of equal length over the audio sent."""
    texts = text.split()
    end = request.start_sample + len(request.samples)
    size = len(request.samples) // max(1, len(texts))
    words = tuple(
        Word(
            text=f" {word}",
            start_sample=request.start_sample + index * size,
            end_sample=request.start_sample + (index + 1) * size,
            probability=1.0,
        )
        for index, word in enumerate(texts)
    )
    return StepResult(
        session=request.session,
        segment_id=request.segment_id,
        final=request.final,
        text=text,
        words=words,
        end_sample=end,
        terms=(),
        language="en",
        glossary_version=1,
    )


def test_silence_asks_nothing_of_the_engine(engine: FakeEngine) -> None:
    """Without speech there are no requests and no events but the end."""
    core = core_with(engine)
    assert play(core, engine, silence(60), 0.5) == [SessionEnded(audio_samples=60 * 16_000)]
    assert engine.requests == []


def test_first_partial_after_less_than_a_third_of_a_second(engine: FakeEngine) -> None:
    """The first request comes as soon as enough speech was heard, the next after the interval."""
    core = core_with(engine)
    asked_at = []
    for index in range(20):
        core.receive_audio(tone(0.1))
        if request := core.next_request():
            asked_at.append(round(0.1 * (index + 1), 1))
            core.receive_result(engine.step(request))
    assert asked_at[:3] == [0.3, 0.8, 1.3]


def test_the_next_try_comes_sooner_while_nothing_was_shown(engine: FakeEngine) -> None:
    """After an empty hypothesis the viewer does not wait for the whole interval."""
    core = core_with(engine)
    core.receive_audio(tone(0.3))
    request = core.next_request()
    assert request is not None
    core.receive_result(answer(request, ""))
    core.receive_audio(tone(0.3))
    assert core.next_request() is not None


def test_slow_steps_make_partials_rarer(engine: FakeEngine) -> None:
    """A step of 0.6 s is followed by a partial after 1.2 s of audio, not after 0.5 s."""
    core = core_with(engine)
    core.receive_audio(tone(0.3))
    request = core.next_request()
    assert request is not None
    core.receive_result(replace(answer(request, "a"), timings_ms={"encode": 200, "decode": 400}))
    core.receive_audio(tone(1.1))
    assert not core.ready
    core.receive_audio(tone(0.1))
    assert core.ready


def test_babble_is_not_shown(engine: FakeEngine) -> None:
    """More words than anyone could have said in the time make no partial."""
    core = core_with(engine)
    core.receive_audio(tone(0.5))
    request = core.next_request()
    assert request is not None
    assert core.receive_result(answer(request, "can I have it? " * 3)) == []


def test_a_pause_is_decoded_at_once_and_becomes_the_final(engine: FakeEngine) -> None:
    """The endpoint after a decoded pause costs no further step."""
    core = core_with(engine)
    events = core.receive_audio(np.concatenate([tone(1.0), silence(0.25)]))
    events += work(core, engine)
    steps = len(engine.requests)
    events += core.receive_audio(silence(0.3))
    assert len(finals(events)) == 1 and core.next_request() is None
    assert len(engine.requests) == steps
    assert not engine.requests[-1].final


def test_a_final_is_asked_for_when_the_engine_was_busy(engine: FakeEngine) -> None:
    """Speech that no step has heard is decoded, as final, once its segment is over."""
    core = core_with(engine)
    core.receive_audio(tone(0.5))
    first = core.next_request()
    assert first is not None and core.next_request() is None
    core.receive_audio(np.concatenate([tone(1.0), silence(0.6)]))
    assert core.wanted is None  # one request at a time
    core.receive_result(engine.step(first))
    assert core.wanted == Wanted(Kind.FINAL, samples(1.5) + samples(FINAL_WITHIN_S))
    last = core.next_request()
    assert last is not None and last.final
    assert len(first.samples) + len(last.samples) == samples(2.0)
    (final,) = finals(core.receive_result(engine.step(last)))
    assert (final.start_sample, final.end_sample) == (0, samples(2.0))
    assert core.idle


def test_deadlines_of_partials_and_pauses_are_on_the_audio_clock(engine: FakeEngine) -> None:
    """A partial is due one interval after it could be asked for, a pause soon after the speech."""
    core = core_with(engine, partial_interval_s=0.5)
    assert core.wanted is None
    core.receive_audio(np.concatenate([silence(1.0), tone(0.4)]))
    assert core.wanted == Wanted(Kind.PARTIAL, samples(2.0))
    core.receive_audio(np.concatenate([tone(0.1), silence(0.2)]))
    assert core.wanted == Wanted(Kind.PAUSE, samples(1.5) + samples(FINAL_WITHIN_S))


def test_finals_queue_in_order_and_partials_wait(engine: FakeEngine) -> None:
    """With a backlog, closed segments come first, each exactly once."""
    core = core_with(engine)
    for _ in range(3):
        core.receive_audio(np.concatenate([tone(1.0), silence(0.6)]))
    core.receive_audio(tone(1.0))
    order = []
    while request := core.next_request():
        order.append((request.segment_id, request.final))
        core.receive_result(engine.step(request))
    assert order == [(1, True), (2, True), (3, True), (4, False)]


def test_lag_counts_speech_not_yet_heard(engine: FakeEngine) -> None:
    """Silence is no lag; speech is until a step has covered it."""
    core = core_with(engine)
    core.receive_audio(silence(3))
    assert core.lag_samples == 0
    core.receive_audio(tone(2))
    assert core.lag_samples == samples(2.3)
    work(core, engine)
    assert core.lag_samples == 0


def test_no_final_for_speech_without_words(engine: FakeEngine) -> None:
    """If nothing was ever recognised, ``speech.stopped`` is all."""
    core = core_with(engine)
    events = core.receive_audio(np.concatenate([tone(1.0), silence(0.6)]))
    request = core.next_request()
    assert request is not None
    events += core.receive_result(answer(request, ""))
    assert [type(event) for event in events] == [SpeechStarted, SpeechStopped]
    assert core.idle


def test_an_empty_final_takes_back_a_partial(engine: FakeEngine) -> None:
    """Text that was shown as volatile and turned out to be nothing ends in an empty final."""
    core = core_with(engine)
    core.receive_audio(tone(0.5))
    request = core.next_request()
    assert request is not None
    (partial,) = core.receive_result(answer(request, "you"))
    assert isinstance(partial, Partial) and partial.volatile == "you"
    core.receive_audio(np.concatenate([tone(0.3), silence(0.6)]))
    request = core.next_request()
    assert request is not None
    (final,) = finals(core.receive_result(answer(request, "")))
    assert (final.text, final.words, final.revision) == ("", (), 2)


def test_empty_hypotheses_are_not_told(engine: FakeEngine) -> None:
    """A partial needs text, and something new to tell."""
    core = core_with(engine)
    told = []
    for text in ("", "a", "a"):
        core.receive_audio(tone(0.6))
        request = core.next_request()
        assert request is not None
        told.append(len(core.receive_result(answer(request, text))))
    assert told == [0, 1, 0]


def test_a_failed_step_keeps_what_was_shown(engine: FakeEngine) -> None:
    """The segment ends with the text of its last partial; the next one is worked on again."""
    core = core_with(engine)
    core.receive_audio(tone(0.5))
    request = core.next_request()
    assert request is not None
    core.receive_result(answer(request, "so far"))
    core.receive_audio(tone(1.0))
    assert core.next_request() is not None
    (error,) = core.step_failed(ModelError("ill"))
    assert isinstance(error, Error) and not error.fatal and error.segment_id == 1
    core.receive_audio(tone(1.0))
    assert core.next_request() is None
    (final,) = finals(core.receive_audio(silence(0.6)))
    assert final.text == "so far"
    core.receive_audio(tone(1.0))
    request = core.next_request()
    assert request is not None and request.segment_id == 2


def test_a_model_that_is_late_costs_a_partial_but_not_the_final(engine: FakeEngine) -> None:
    """Nobody is told of a partial that is left out; the final hears the whole segment."""
    core = core_with(engine)
    core.receive_audio(tone(1.0))
    assert core.next_request() is not None
    assert core.step_failed(ModelUnavailable("late")) == []
    assert core.next_request() is None  # not before there is more to hear
    core.receive_audio(tone(1.0))
    assert core.next_request() is not None
    events = core.receive_audio(silence(0.6))  # the end, while the partial is under way
    assert finals(events + core.step_failed(ModelUnavailable("late"))) == []
    request = core.next_request()
    assert request is not None and request.final
    (final,) = finals(core.receive_result(answer(request, "all of it")))
    assert final.text == "all of it"


def test_a_final_that_is_too_late_is_an_error(engine: FakeEngine) -> None:
    """The session goes on with the next segment."""
    core = core_with(engine)
    core.receive_audio(np.concatenate([tone(1.0), silence(0.6)]))
    request = core.next_request()
    assert request is not None and request.final
    (error, *_) = core.step_failed(ModelUnavailable("late"))
    assert isinstance(error, Error) and error.code == "model_failed" and not error.fatal
    core.receive_audio(tone(1.0))
    request = core.next_request()
    assert request is not None and request.segment_id == 2


def test_partials_can_be_switched_off(engine: FakeEngine) -> None:
    """Only pauses and ends are decoded then, and only finals are told."""
    core = core_with(engine, partials=False)
    events = play(core, engine, np.concatenate([tone(3.0), silence(1.0)]), 0.1)
    assert [type(event) for event in events] == [
        SpeechStarted,
        SpeechStopped,
        Final,
        SessionEnded,
    ]
    assert len(engine.requests) == 1


def test_flush_waits_for_everything_before_it(engine: FakeEngine) -> None:
    """``flushed`` comes after the finals of all speech before the flush, or at once if none."""
    core = core_with(engine)
    assert core.flush() == [Flushed()]
    core.receive_audio(tone(1.0))
    events = core.flush()
    assert [type(event) for event in events] == [SpeechStopped]
    core.receive_audio(tone(1.0))
    events = work(core, engine)
    assert [type(event) for event in events] == [Final, Flushed, Partial]


def test_what_is_discarded_gets_no_text(engine: FakeEngine) -> None:
    """Not even when the engine has heard all of it; what was shown is taken back."""
    core = core_with(engine)
    core.receive_audio(np.concatenate([tone(1.0), silence(0.3)]))
    assert any(isinstance(event, Partial) for event in work(core, engine))
    stopped, final = core.discard()
    assert isinstance(stopped, SpeechStopped)
    assert isinstance(final, Final) and final.text == ""
    assert core.idle


def test_speech_before_a_flush_is_not_discarded(engine: FakeEngine) -> None:
    """Nor is, on request, any that has ended by itself; the final of each comes as ever."""
    core = core_with(engine, partials=False)
    core.receive_audio(np.concatenate([tone(1.0), silence(0.1)]))
    core.flush()
    core.receive_audio(np.concatenate([tone(1.0), silence(1.0), tone(1.0)]))
    core.discard(ended=False)
    assert [final.segment_id for final in finals(work(core, engine))] == [1, 2]
    core.receive_audio(np.concatenate([silence(0.5), tone(1.0), silence(1.0), tone(1.0)]))
    core.discard()
    assert finals(work(core, engine)) == []


def test_audio_after_the_end_is_ignored(engine: FakeEngine) -> None:
    """After ``finish`` nothing is accepted, and the end is told once."""
    core = core_with(engine)
    assert core.finish() == [SessionEnded(audio_samples=0)]
    assert core.receive_audio(tone(1.0)) == core.finish() == []
    assert core.audio_samples == 0


def test_a_new_glossary_counts_for_everything_without_a_final(engine: FakeEngine) -> None:
    """What was already decoded with the old glossary is decoded again."""
    core = core_with(engine)
    core.receive_audio(np.concatenate([silence(1.0), tone(1.0), silence(0.3)]))
    work(core, engine)
    assert not core.ready
    core.glossary_changed()
    request = core.next_request()
    assert request is not None and not len(request.samples) and not request.final
    core.receive_result(engine.step(request))
    assert not core.ready


def test_a_result_nobody_asked_for_is_an_error(engine: FakeEngine) -> None:
    """The shell may not mix sessions or segments up."""
    core = core_with(engine)
    core.receive_audio(tone(0.5))
    request = core.next_request()
    assert request is not None
    result = answer(request, "x")
    core.receive_result(result)
    with pytest.raises(ValueError, match="no request is open"):
        core.receive_result(result)


SPEECH = st.lists(st.tuples(st.floats(0.05, 4.0), st.floats(0.0, 1.2)), min_size=1, max_size=6)


def audio_of(parts: list[tuple[float, float]]) -> Samples:
    """Tones and silences in turn, marked so that every sample is unique to its place."""
    return np.concatenate([piece for a, b in parts for piece in (tone(a), silence(b))])


@settings(max_examples=30, deadline=None)
@given(SPEECH, st.lists(st.integers(1, 20_000), min_size=1, max_size=20))
def test_the_cutting_of_the_audio_leaves_no_trace(
    parts: list[tuple[float, float]], cuts: list[int]
) -> None:
    """Blocks of any size give the same segments and texts as the whole audio at once."""
    audio = audio_of(parts)
    config = {"segmenter": SegmenterConfig(max_s=3.0, soft_max_s=2.0)}
    spans = []
    for sizes in ([len(audio)], cuts):
        engine = FakeEngine()
        core = core_with(engine, **config)
        events: list[Event] = []
        at = index = 0
        while at < len(audio):
            size = sizes[index % len(sizes)]
            events += core.receive_audio(audio[at : at + size]) + work(core, engine)
            at, index = at + size, index + 1
        events += core.finish() + work(core, engine)
        spans.append([(f.start_sample, f.end_sample, f.reason) for f in finals(events)])
    assert spans[0] == spans[1]


@settings(max_examples=30, deadline=None)
@given(SPEECH, st.integers(100, 30_000), st.integers(0, 5))
def test_requests_carry_each_sample_once_and_captions_keep_their_word(
    parts: list[tuple[float, float]], block: int, delay: int
) -> None:
    """With an engine of any slowness: no sample lost or doubled, committed text is never undone."""
    audio = audio_of(parts)
    engine = FakeEngine()
    core = core_with(engine, segmenter=SegmenterConfig(max_s=3.0, soft_max_s=2.0))
    sent: dict[int, list[StepRequest]] = {}
    events: list[Event] = []
    waiting: list[StepRequest] = []
    blocks = 0
    for at in range(0, len(audio), block):
        events += core.receive_audio(audio[at : at + block])
        blocks += 1
        if waiting and blocks % (delay + 1) == 0:
            events += core.receive_result(engine.step(waiting.pop()))
        if request := core.next_request():
            sent.setdefault(request.segment_id, []).append(request)
            waiting.append(request)
    events += core.finish()
    while waiting or (request := core.next_request()):
        if not waiting and request:
            sent.setdefault(request.segment_id, []).append(request)
            waiting.append(request)
        events += core.receive_result(engine.step(waiting.pop()))
    assert core.idle and isinstance(events[-1], SessionEnded)
    check_requests(audio, sent, finals(events))
    check_captions(events)


def check_requests(
    audio: Samples, sent: dict[int, list[StepRequest]], captions: list[Final]
) -> None:
    """The samples of a segment's requests are the audio, in order, within its final's span."""
    assert list(sent) == sorted(sent)
    ends = {final.segment_id: final.end_sample for final in captions}
    previous_end = 0
    for segment_id, requests in sent.items():
        heard = np.concatenate([request.samples for request in requests])
        start = requests[0].start_sample
        assert start >= previous_end
        assert {request.start_sample for request in requests} == {start}
        np.testing.assert_array_equal(heard, audio[start : start + len(heard)])
        previous_end = start + len(heard)
        assert previous_end <= ends.get(segment_id, len(audio))


def check_captions(events: list[Event]) -> None:
    """Committed text of a segment is a prefix of all its later text, revisions count up."""
    committed: dict[int, str] = {}
    revision: dict[int, int] = {}
    done: set[int] = set()
    for event in events:
        if not isinstance(event, Partial | Final):
            continue
        text = event.text if isinstance(event, Final) else event.committed + event.volatile
        assert text.startswith(committed.get(event.segment_id, ""))
        assert event.revision == revision.get(event.segment_id, 0) + 1
        assert event.segment_id not in done
        revision[event.segment_id] = event.revision
        if isinstance(event, Partial):
            committed[event.segment_id] = event.committed
        else:
            done.add(event.segment_id)
