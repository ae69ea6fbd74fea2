"""What a session's audio costs the event loop; the rest of the runner is seen through servers."""

from __future__ import annotations

import asyncio
import threading
from asyncio.selector_events import _SelectorSocketTransport
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from a2p_engine.types import GlossaryInfo, SessionOptions
from streaming.audio.pcm import AudioDecoder, AudioFormat
from streaming.commands import EditGlossary
from streaming.events import Event, Final, GlossaryUpdated, SessionEnded
from streaming.operations.metrics import Metrics
from streaming.operations.session_meter import SessionMeter
from streaming.runner import MAX_PENDING_EDITS, MUTED_BYTES, SessionRunner
from streaming.scheduling.engine_room import EngineRoom
from streaming.session import SessionConfig, SessionCore
from streaming.vad.energy import EnergyDetector
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import STOP, connect, until

MUTED = pcm(silence(0.1))


@pytest.fixture
def events() -> list[Event]:
    """What the session tells."""
    return []


@pytest.fixture
async def runner(engine: FakeEngine, events: list[Event]) -> AsyncIterator[SessionRunner]:
    """A session that hears by energy."""
    room = EngineRoom(engine, workers=1)
    handle, _ = engine.open(SessionOptions())
    runner = SessionRunner(
        room,
        handle,
        SessionCore(handle, SessionConfig(), EnergyDetector()),
        AudioDecoder(AudioFormat()),
        emit=events.append,
        publish=lambda event: None,
        max_backlog_s=30.0,
        meter=SessionMeter(Metrics(), "native", 0.5),
    )
    yield runner
    await runner.close()
    room.close()


def at_once(runner: SessionRunner, data: bytes) -> float | None:
    """What ``receive_audio`` gives without waiting for anything; None if it waits."""
    call = runner.receive_audio(data)
    try:
        call.send(None)
    except StopIteration as done:
        return float(done.value)
    call.close()
    return None


async def test_muted_audio_is_taken_at_once(runner: SessionRunner) -> None:
    """Zeros need no task, count as audio, and do not wake whoever works off steps."""
    assert [at_once(runner, MUTED) for _ in range(30)] == pytest.approx([0.1] * 30)
    assert runner.stats(1).audio_samples == 3 * 16_000
    assert not runner._wake.is_set()


async def test_what_else_comes_waits_for_its_turn(runner: SessionRunner) -> None:
    """Sound, much at once, and zeros behind audio that is still under way."""
    assert at_once(runner, pcm(silence(0.1), tone(0.001))) is None
    await asyncio.sleep(0.01)
    assert at_once(runner, bytes(MUTED_BYTES + 2)) is None
    await asyncio.sleep(0.01)
    async with runner._receiving:
        assert at_once(runner, MUTED) is None


async def test_zeros_end_what_was_said(runner: SessionRunner, events: list[Event]) -> None:
    """Sent one by one or all at once, speech between zeros has its final at the same place."""
    working = asyncio.create_task(runner.work())
    parts = [MUTED] * 5 + [pcm(tone(0.1))] * 10 + [MUTED] * 10
    for part in parts:
        await runner.receive_audio(part)
    together = [asyncio.ensure_future(runner.receive_audio(part)) for part in parts]
    await asyncio.gather(*together)
    await runner.stop()
    await working
    first, second = [event for event in events if isinstance(event, Final)]
    assert second.start_sample - first.start_sample == 25 * 1600
    assert second.end_sample - first.end_sample == 25 * 1600
    assert events[-1] == SessionEnded(audio_samples=50 * 1600)


@pytest.fixture
def slow_edits(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[threading.Semaphore]:
    """Edits of the engine wait for it to be released, once for each."""
    edit, turn = engine.edit_glossary, threading.Semaphore(0)

    def edit_slowly(session: str, **change: Any) -> GlossaryInfo:
        turn.acquire()
        return edit(session, **change)

    monkeypatch.setattr(engine, "edit_glossary", edit_slowly)
    yield turn
    turn.release(1000)  # or a test that fails would wait for ever


def added(number: int) -> EditGlossary:
    """An edit that adds a term of its own."""
    return EditGlossary(add=(f"term {number}",))


async def test_no_more_edits_are_taken_than_may_be_pending(
    runner: SessionRunner,
    engine: FakeEngine,
    events: list[Event],
    slow_edits: threading.Semaphore,
) -> None:
    """The next one is taken when one is made; all are made in order, and before the end."""
    for number in range(1, MAX_PENDING_EDITS):
        await runner.edit_glossary(added(number))
    last = asyncio.create_task(runner.edit_glossary(added(MAX_PENDING_EDITS)))
    await asyncio.sleep(0.05)
    assert not last.done() and runner.edits == MAX_PENDING_EDITS
    slow_edits.release()
    await last
    slow_edits.release(MAX_PENDING_EDITS - 1)
    await runner.stop()
    assert [event.version for event in events if isinstance(event, GlossaryUpdated)] == list(
        range(2, MAX_PENDING_EDITS + 2)
    )
    (session,) = engine.sessions.values()
    assert list(session.terms) == [f"term {n}" for n in range(1, MAX_PENDING_EDITS + 1)]


async def test_what_is_closed_makes_no_further_edit(
    runner: SessionRunner, events: list[Event], slow_edits: threading.Semaphore
) -> None:
    """Only the one under way is waited for."""
    for number in range(5):
        await runner.edit_glossary(added(number))
    closing = asyncio.create_task(runner.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    slow_edits.release()
    await closing
    assert len(events) == 1


async def test_a_client_that_leaves_takes_its_edits_along(
    serving: Serving, engine: FakeEngine, slow_edits: threading.Semaphore
) -> None:
    """However many it has sent: its session is closed after the next one or two."""
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        for number in range(200):
            await client.send({"type": "glossary.edit", "add": [f"term {number}"]})
        await asyncio.sleep(0.1)
        (session,) = engine.sessions.values()
        client.socket.transport.abort()
        while engine.sessions:
            slow_edits.release()
            await asyncio.sleep(0.05)
        await until(lambda: server.hub.sessions == 0)
    assert len(session.terms) <= 5


async def test_a_stop_waits_for_more_edits_than_may_be_pending(
    serving: Serving, engine: FakeEngine, slow_edits: threading.Semaphore
) -> None:
    """None of those that came before it is lost."""
    slow_edits.release(50)
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        for number in range(50):
            await client.send({"type": "glossary.edit", "add": [f"term {number}"]})
        await client.send(STOP)
        assert await client.until_closed() == 1000
    updates = client.of_type("glossary.updated")
    assert [update["terms"] for update in updates] == list(range(1, 51))


async def test_small_messages_do_not_stop_the_reading(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading goes on while one small message waits, and stops for one that is large."""
    stops: list[Any] = []
    pause = _SelectorSocketTransport.pause_reading

    def counted(transport: Any) -> None:
        stops.append(transport)
        pause(transport)

    monkeypatch.setattr(_SelectorSocketTransport, "pause_reading", counted)
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        stops.clear()
        for _ in range(20):
            await client.send(MUTED)
            await asyncio.sleep(0.01)
        assert not stops
        await client.send(pcm(silence(3)))
        await client.send({"type": "stop"})
        assert await client.until_closed() == 1000
    assert stops
