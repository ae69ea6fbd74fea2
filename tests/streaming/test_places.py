"""A server whose places are all taken: who still gets in, for how long, and who does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.flaky import flaky_proxy
from tests.streaming.signals import pcm, tone
from tests.streaming.test_resume import resume_of
from tests.streaming.wire import STOP, Client, connect, until

START = {"type": "start", "options": {"vad": "energy"}}


@asynccontextmanager
async def standing(server: Running) -> AsyncIterator[Client]:
    """A client that was let in although there was no place; it has said nothing yet."""
    before = len(server.hub._standing)
    async with connect(server.ws_url) as client:
        await until(lambda: len(server.hub._standing) == before + 1)
        yield client


async def test_a_resumed_session_takes_the_place_of_its_dead_connection(
    serving: Serving, engine: FakeEngine
) -> None:
    """At once, though the server still believes in it; the place is free when the session ends."""
    async with serving(max_sessions=1) as server, flaky_proxy(server.port) as proxy:
        async with connect(proxy.ws_url) as client:
            started = await client.start(resumable=True)
            proxy.cut_clients()
            async with connect(server.ws_url) as again:
                async with asyncio.timeout(1):
                    await again.send(resume_of(started))
                    await again.wait_for("session.resumed")
                assert server.hub.sessions == 1 and len(engine.sessions) == 1
                async with connect(server.ws_url) as other:
                    await other.send(START)
                    assert await other.until_closed() == 1013
                await again.send(pcm(tone(1)))
                await again.send(STOP)
                assert await again.until_closed() == 1000
                assert len(again.of_type("final")) == 1
        await until(lambda: server.hub.sessions == 0)
        async with connect(server.ws_url) as client:
            await client.start()
            await until(lambda: not server.hub._standing)


async def test_a_start_needs_a_place(serving: Serving) -> None:
    """It gets one that has become free, and otherwise none."""
    async with serving(max_sessions=1, retry_after_s=3) as server:
        async with connect(server.ws_url) as first:
            await first.start()
            async with standing(server) as second:
                await second.send(START)
                assert await second.until_closed() == 1013
            (error,) = second.got
            assert (error["code"], error["retry_after_s"]) == ("full", 3)
            async with standing(server) as third:
                await first.send(STOP)
                assert await first.until_closed() == 1000
                await until(lambda: server.hub.sessions == 0)
                await third.start()
                assert server.hub.sessions == 1


async def test_not_many_are_let_in(serving: Serving) -> None:
    """As many as there are places, of those that can resume; they count nowhere."""
    async with serving(max_sessions=1) as server, connect(server.ws_url) as client:
        await client.start()
        async with connect(f"ws://127.0.0.1:{server.port}/v1/listen") as other:
            assert await other.until_closed() == 1013
        async with standing(server):
            async with connect(server.ws_url) as further:
                assert await further.until_closed() == 1013
            assert further.got[0]["code"] == "full"
            async with httpx.AsyncClient() as http:
                health = (await http.get(server.url + "healthz")).json()
            assert health["sessions"] == server.hub.sessions == 1


@pytest.mark.parametrize(
    ("message", "close", "code"),
    [
        (None, 1008, "start_timeout"),
        ({"type": "flush"}, 1008, "bad_start"),
        (b"\0\0", 1003, "unexpected_frame"),
        ({"type": "resume", "session_id": "x", "token": "y"}, 1008, "unknown_session"),
    ],
)
async def test_what_else_is_said_is_refused(
    serving: Serving, message: dict[str, str] | bytes | None, close: int, code: str
) -> None:
    """Silence too; then another is let in."""
    async with serving(max_sessions=1, start_timeout_s=0.3) as server:
        async with connect(server.ws_url) as client:
            await client.start()
            async with standing(server) as other:
                if message is not None:
                    await other.send(message)
                assert await other.until_closed() == close
            assert [told["code"] for told in other.got] == [code]
            async with standing(server):
                assert server.hub.sessions == 1


async def test_a_stopping_server_sees_them_out(serving: Serving) -> None:
    """It waits for them, and tells them as it tells all others."""
    async with serving(max_sessions=1) as server, connect(server.ws_url) as client:
        await client.start()
        async with standing(server) as other:
            closing = asyncio.gather(client.until_closed(), other.until_closed())
            await server.stop()
            assert await closing == [1012, 1012]
            assert other.got[-1]["code"] == "shutting_down"


async def test_a_session_that_was_not_resumed_after_all_ends(
    serving: Serving, engine: FakeEngine
) -> None:
    """If too much was lost its client begins anew; the old session does not stay for ever."""
    async with serving(resume_window_s=0.3) as server:
        async with connect(server.ws_url) as client:
            started = await client.start(resumable=True)
            client.socket.transport.abort()
        async with connect(server.ws_url) as client:
            await client.send(resume_of(started, first_frame=10**9))
            assert await client.until_closed() == 1008
        await until(lambda: not engine.sessions)
        await until(lambda: server.hub.sessions == 0)
