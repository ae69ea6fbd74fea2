"""A broken connection costs nothing: the session waits, and both sides send what was missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clients import (
    CaptionClient,
    Event,
    Final,
    Flushed,
    GlossaryUpdated,
    Reconnected,
    Reconnecting,
    RetryPolicy,
    SpeechStarted,
)
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.flaky import FlakyProxy, flaky_proxy
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import connect

QUICK = RetryPolicy(first_delay_s=0.02, max_delay_s=0.1, attempts=50)
OPTIONS = {"vad": "energy", "stats_interval_ms": 0}
TALK = pcm(*[part for length in (1.0, 1.5, 0.7, 2.0) for part in (silence(0.7), tone(length))])
PIECE = 3_200  # 0.1 s


@asynccontextmanager
async def behind_a_proxy(serving: Serving, **settings: Any) -> AsyncIterator[FlakyProxy]:
    """A server that is reached through a proxy."""
    async with serving(**settings) as server, flaky_proxy(server.port) as proxy:
        yield proxy


async def talk(
    proxy: FlakyProxy, at: dict[int, Callable[[], None]] | None = None, **more: Any
) -> list[Event]:
    """Speak through the proxy at ten times real-time pace; ``at`` says what happens when."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(0, len(TALK) // PIECE + 1):
            if at and number in at:
                at[number]()
            yield TALK[number * PIECE : (number + 1) * PIECE]
            await asyncio.sleep(0.01)

    client = CaptionClient(proxy.ws_url, options=OPTIONS, retry=QUICK, **more)
    async with asyncio.timeout(30), client:
        return [event async for event in client.caption(pieces())]


def finals(events: list[Event]) -> list[tuple[float, float]]:
    """Where each final lies; the fake engine's text depends on when its last step was."""
    found = [event for event in events if isinstance(event, Final)]
    assert all(len(final.text.split()) * 0.25 > final.end_s - final.start_s - 1 for final in found)
    return [(round(final.start_s, 3), round(final.end_s, 3)) for final in found]


def returns(events: list[Event]) -> list[bool]:
    """For each reconnect whether the session was still there."""
    return [event.resumed for event in events if isinstance(event, Reconnected)]


@pytest.mark.parametrize("moments", [(4,), (12,), (20, 21, 45), tuple(range(3, 70, 6))])
async def test_nothing_is_lost_or_repeated_over_broken_connections(
    serving: Serving, moments: tuple[int, ...]
) -> None:
    """Whenever and however often it breaks, the captions are those of an unbroken session."""
    async with behind_a_proxy(serving) as proxy:
        unbroken = finals(await talk(proxy))
        events = await talk(proxy, dict.fromkeys(moments, proxy.cut))
    assert len(unbroken) == 4 and finals(events) == unbroken
    assert returns(events) and all(returns(events))
    for kind in (SpeechStarted, Final):
        assert [event.segment_id for event in events if isinstance(event, kind)] == [1, 2, 3, 4]


async def test_the_server_need_not_know_that_the_connection_is_dead(serving: Serving) -> None:
    """The client comes back while the server still believes in the old connection."""
    async with behind_a_proxy(serving) as proxy:
        unbroken = finals(await talk(proxy))
        events = await talk(proxy, {15: proxy.cut_clients, 40: proxy.cut_clients})
    assert finals(events) == unbroken and returns(events) == [True, True]


@pytest.mark.parametrize("moment", [15, 45, 80])
async def test_a_network_that_dies_silently_is_noticed(serving: Serving, moment: int) -> None:
    """Nobody is told; what was swallowed on either side comes again, the last stop included."""
    async with behind_a_proxy(serving) as proxy:
        unbroken = finals(await talk(proxy))
        events = await talk(proxy, {moment: proxy.stall}, silence_s=0.6)
    assert finals(events) == unbroken
    assert returns(events) and all(returns(events))


async def test_a_restarted_server_gets_the_audio_again(
    engine: FakeEngine, serving: Serving
) -> None:
    """Without the old session a new one takes over, and still no sentence is lost."""
    async with behind_a_proxy(serving) as proxy:
        unbroken = finals(await talk(proxy))

        def restart() -> None:
            proxy.retarget(second.port)

        async with serving() as second:
            events = await talk(proxy, {30: restart})
    assert finals(events) == unbroken
    assert returns(events) == [False]


async def test_a_server_that_takes_no_new_sessions_is_outwaited(serving: Serving) -> None:
    """The client comes to one that is being drained, and tries again until its successor is up."""
    async with behind_a_proxy(serving) as proxy, serving() as leaving, serving() as successor:
        unbroken = finals(await talk(proxy))
        leaving.hub.cordon()
        change = {30: lambda: proxy.retarget(leaving.port)}
        change[60] = lambda: proxy.retarget(successor.port)
        events = await talk(proxy, change)
    assert finals(events) == unbroken and returns(events) == [False]
    assert any(
        event.reason == "the server takes no new sessions"
        for event in events
        if isinstance(event, Reconnecting)
    )


async def test_a_client_that_stays_away_is_forgotten(serving: Serving, engine: FakeEngine) -> None:
    """After the window the session is gone, its place is free and a new one is begun."""
    async with serving(resume_window_s=0.2, max_sessions=1) as server:
        async with connect(server.ws_url) as client:
            started = await client.start(resumable=True)
            client.socket.transport.abort()
        await asyncio.sleep(0.1)
        assert len(engine.sessions) == 1
        await until(lambda: not engine.sessions)
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started))
            assert await client.until_closed() == 1008
        assert client.got[-1]["code"] == "unknown_session"
        async with connect(server.ws_url) as client:
            await client.start()


async def test_a_session_ends_with_its_connection_if_nobody_asked_otherwise(
    serving: Serving, engine: FakeEngine
) -> None:
    """So it does when the client itself says goodbye, or the settings say never."""
    for keys, settings, code in (
        ({}, {}, None),
        ({"resumable": True}, {}, 1001),
        ({"resumable": True}, {"resume_window_s": 0}, None),
    ):
        async with serving(**settings) as server, connect(server.ws_url) as client:
            await client.start(**keys)
            if code:
                await client.socket.close(code)
            else:
                client.socket.transport.abort()
            await until(lambda: not engine.sessions)


async def test_edits_and_flushes_that_were_lost_are_made_once(
    serving: Serving, engine: FakeEngine
) -> None:
    """What the server never got is sent again, and nothing that it got."""
    async with behind_a_proxy(serving) as proxy:
        client = CaptionClient(proxy.ws_url, options=OPTIONS, retry=QUICK)
        async with asyncio.timeout(20), client:
            await client.edit_glossary(add=["apixaban"])
            await client.send(pcm(tone(1)))
            await wait_for(client, GlossaryUpdated)
            proxy.stall()
            await client.edit_glossary(add=["warfarin"], remove=["apixaban"])
            await client.flush()
            proxy.cut_clients()
            await wait_for(client, Flushed)
            (session,) = engine.sessions.values()
            assert (set(session.terms), session.version) == ({"warfarin"}, 3)


async def test_audio_that_is_gone_counts_as_silence(serving: Serving) -> None:
    """A client that could not keep all of it comes back with a gap, and times stay right."""
    async with serving() as server:
        async with connect(server.ws_url) as client:
            started = await client.start(resumable=True)
            await client.send(pcm(silence(0.5), tone(1.0)))
            await client.wait_for("speech.started")
            client.socket.transport.abort()
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started, last_seq=2, first_frame=16_000 * 3))
            resumed = await client.wait_for("session.resumed")
            await client.send(pcm(tone(1.0)))
            await client.send({"type": "stop"})
            assert await client.until_closed() == 1000
    assert (resumed["next_frame"], resumed["skipped_frames"]) == (48_000, 24_000)
    first, second = client.of_type("final")
    assert (first["start_s"], second["start_s"], second["end_s"]) == (0.2, 2.7, 4.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"token": "guess"}, "no such session"),
        ({"session_id": "0" * 16}, "no such session"),
        ({"last_seq": 99}, "last_seq 99 cannot be resumed from; accepted: 0 to"),
        ({"first_frame": 10**9}, "frames of audio were lost; accepted: 30 s"),
    ],
)
async def test_a_resume_that_cannot_be_is_refused(
    serving: Serving, change: dict[str, Any], said: str
) -> None:
    """The secret guards a session, and a refusal does not hurt it."""
    async with serving() as server:
        async with connect(server.ws_url) as client:
            started = await client.start(resumable=True)
            client.socket.transport.abort()
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started) | change)
            assert await client.until_closed() == 1008
        assert client.got[-1]["code"] == "unknown_session" and said in client.got[-1]["message"]
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started))
            await client.wait_for("session.resumed")


async def test_a_full_server_keeps_the_place_of_a_broken_session(serving: Serving) -> None:
    """Its client comes back to it; nobody else gets in meanwhile."""
    async with serving(max_sessions=1) as server:
        async with connect(server.ws_url) as client:
            started = await client.start(resumable=True)
            client.socket.transport.abort()
        async with connect(server.ws_url) as other:
            await other.send({"type": "start"})
            assert await other.until_closed() == 1013
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started))
            await client.wait_for("session.resumed")


async def test_a_stopping_server_sees_broken_sessions_out(
    serving: Serving, engine: FakeEngine
) -> None:
    """Publishers get the last words of a client that has not come back."""
    told = Recorder()
    async with serving(publishers=[told]) as server:
        async with connect(server.ws_url) as client:
            await client.start(resumable=True)
            await client.send(pcm(tone(1.0)))
            await client.wait_for("speech.started")
            client.socket.transport.abort()
        await asyncio.sleep(0.1)
    assert engine.sessions == {}
    assert [type(event).__name__ for event in told.events][-2:] == ["Final", "SessionEnded"]
    assert "token" not in json.dumps([event.to_dict() for event in told.events])


class Recorder:
    """A publisher that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def start(self) -> None:
        """See ``Publisher``."""

    def publish(self, session_id: str, event: Any) -> None:
        """See ``Publisher``."""
        self.events.append(event)

    async def stop(self) -> None:
        """See ``Publisher``."""


def resume_of(started: dict[str, Any], last_seq: int = 1, first_frame: int = 0) -> dict[str, Any]:
    """The message that resumes a session."""
    return {
        "type": "resume",
        "session_id": started["session_id"],
        "token": started["resume"]["token"],
        "last_seq": last_seq,
        "first_frame": first_frame,
    }


async def wait_for(client: CaptionClient, kind: type[Event]) -> None:
    """Read events up to the next one of a kind."""
    async for event in client:
        if isinstance(event, kind):
            return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes moments."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
