"""What clients do wrong, and what becomes of them: refused, given up, or held back."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest
import websockets

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest
from streaming.scheduling.capacity import LEAST_FINALS
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import STOP, client_of, connect, until

TWO_SEGMENTS = pcm(silence(0.5), tone(2), silence(1), tone(1))


@pytest.mark.parametrize(
    ("message", "code", "close", "named"),
    [
        (b"\0\0", "unexpected_frame", 1003, "start"),
        ("hello", "bad_json", 1007, "not JSON"),
        ("[1]", "bad_json", 1007, "JSON object"),
        ({"type": "flush"}, "bad_start", 1008, '"flush"'),
        ({"type": "start", "audio": {"sample_rate_hz": 11025}}, "bad_option", 1008, "11025"),
        ({"type": "start", "options": {"beam": 1}}, "bad_option", 1008, "options.beam"),
        ({"type": "start", "glossary": {"name": "x"}}, "bad_option", 1008, "glossary.name"),
    ],
)
async def test_a_bad_first_message(
    serving: Serving, message: Any, code: str, close: int, named: str
) -> None:
    """Each mistake has its error and close code, and the next session works."""
    async with serving() as server:
        async with connect(server.ws_url) as client:
            await client.send(message)
            assert await client.until_closed() == close
        (error,) = client.got
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
        assert named in error["message"]
        async with connect(server.ws_url) as client:
            await client.start()


async def test_bad_json_ends_the_session_but_a_bad_command_does_not(serving: Serving) -> None:
    """A command that is not understood is answered; text that is not JSON is the end."""
    async with client_of(serving) as client:
        await client.start()
        await client.send({"type": "glossary.edit", "ad": []})
        error = await client.wait_for("error")
        assert (error["code"], error["fatal"]) == ("bad_command", False)
        await client.send(pcm(tone(1)))
        await client.send("oops")
        assert await client.until_closed() == 1007
    assert client.got[-1]["code"] == "bad_json"


async def test_a_message_of_100_mb_is_refused(serving: Serving) -> None:
    """It is answered with 1009 before it is read, and the next session works."""
    async with serving() as server:
        async with connect(server.ws_url) as client:
            await client.start()
            sending = asyncio.create_task(client.send(bytes(100_000_000)))
            assert await client.until_closed() == 1009
            assert "1048576" in str(client.socket.close_reason)
            await asyncio.wait([sending])
        async with connect(server.ws_url) as client:
            await client.start()
            await client.send(TWO_SEGMENTS)
            await client.send(STOP)
            assert await client.until_closed() == 1000
    assert len(client.of_type("final")) == 2


async def test_text_that_is_not_utf8_is_refused(serving: Serving) -> None:
    """Latin-1 in a text message is closed with 1007."""
    async with client_of(serving) as client:
        await client.start()
        await client.socket.send("é".encode("latin-1"), text=True)
        assert await client.until_closed() == 1007


async def test_full(serving: Serving) -> None:
    """One client too many is told when to come back; a place that is given back can be had."""
    async with serving(max_sessions=1, retry_after_s=3) as server:
        async with connect(server.ws_url) as first:
            await first.start()
            async with connect(server.ws_url) as second:
                await second.send({"type": "start"})
                assert await second.until_closed() == 1013
            (error,) = second.got
            assert (error["code"], error["retry_after_s"]) == ("full", 3)
        await until(lambda: server.hub.sessions == 0)
        async with connect(server.ws_url) as third:
            await third.start()


@pytest.mark.parametrize(("admission", "codes"), [("measured", ["full"]), ("fixed", [])])
async def test_no_more_sessions_than_can_be_captioned_in_time(
    serving: Serving, admission: str, codes: list[str]
) -> None:
    """When finals come late a new session is refused, with a hint; those that are open go on."""
    speech = pcm(np.concatenate([tone(0.6), silence(0.7)]))
    settings = {"admission": admission, "max_final_s": 0.01, "max_sessions": 20}
    async with serving(**settings) as server, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(server.ws_url)) for _ in range(LEAST_FINALS)
        ]
        for client in clients:
            await client.start()
        for client in clients:
            await client.send(speech)
            await client.wait_for("final")
        newcomer = await stack.enter_async_context(connect(server.ws_url))
        await newcomer.send({"type": "start"})
        seen = await newcomer.wait_for("error" if codes else "session.started")
        assert [m["code"] for m in newcomer.of_type("error")] == codes
        if codes:
            assert 1 <= seen["retry_after_s"] <= 60
            assert await newcomer.until_closed() == 1013
        await clients[0].send(STOP)
        await clients[0].wait_for("session.ended")


async def test_a_connection_without_a_start(serving: Serving) -> None:
    """It is closed after a while, so that it does not keep a place."""
    async with client_of(serving, start_timeout_s=0.1) as client:
        assert await client.until_closed() == 1008
    assert client.got[0]["code"] == "start_timeout"


@pytest.mark.parametrize(
    ("path", "close"),
    [("/vosk", 1008), ("/v1/realtime?intent=transcription", 1008), ("/v1/listen", 1011)],
)
async def test_a_client_that_never_says_anything(serving: Serving, path: str, close: int) -> None:
    """It may wait for longer than a ``start`` may, but not for ever; its place is free then."""
    async with serving(start_timeout_s=0.05, max_idle_s=0.4, max_sessions=1) as server:
        async with websockets.connect(f"ws://127.0.0.1:{server.port}{path}") as idle:
            await asyncio.sleep(0.2)
            assert server.hub.sessions == 1
            await idle.wait_closed()
            assert idle.close_code == close
        await until(lambda: server.hub.sessions == 0)


async def test_a_client_that_falls_silent(serving: Serving, engine: FakeEngine) -> None:
    """It gets the finals of what was said; its session is over, though a break would not end it."""
    async with client_of(serving, max_idle_s=0.4) as client:
        await client.start(resumable=True)
        for _ in range(3):
            await client.send(pcm(tone(0.5)))
            await asyncio.sleep(0.2)
        assert await client.until_closed() == 1008
        assert engine.sessions == {}
    (final,) = client.of_type("final")
    assert (final["end_s"], client.got[-1]["code"]) == (1.5, "idle_timeout")


async def test_a_vanished_client_frees_everything(serving: Serving, engine: FakeEngine) -> None:
    """Dropping the line without a close ends the engine's session, even in mid-step."""
    engine.step_s = 0.2
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        await client.send(pcm(tone(3)))
        await until(lambda: engine.busy == 1)
        client.socket.transport.abort()
        await until(lambda: server.hub.sessions == 0)
        assert engine.sessions == {}


async def test_a_silent_line_is_noticed(serving: Serving, engine: FakeEngine) -> None:
    """A peer that answers no ping is given up."""
    async with serving(ping_s=0.2) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address) as raw:  # a peer that never answers anything
            raw.sendall(
                b"GET /ws HTTP/1.1\r\nHost: localhost\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await until(lambda: server.hub.sessions == 1)
            await until(lambda: server.hub.sessions == 0)


async def test_one_failing_step_costs_one_segment(serving: Serving, engine: FakeEngine) -> None:
    """The client is told; the next segment is captioned, and so are other clients."""

    def fail(request: StepRequest) -> None:
        if request.segment_id == 1 and request.session == "fake-1":
            raise ModelError("the model is ill")

    engine.hook = fail
    async with serving() as server:
        async with connect(server.ws_url) as client, connect(server.ws_url) as other:
            await client.start()
            await other.start()
            for each in (client, other):
                await each.send(TWO_SEGMENTS)
                await each.send(STOP)
                assert await each.until_closed() == 1000
    (error,) = client.of_type("error")
    assert (error["code"], error["fatal"]) == ("model_failed", False)
    assert error["message"] == "the model is ill"
    assert [m["segment_id"] for m in client.of_type("final")] == [2]
    assert [m["segment_id"] for m in other.of_type("final")] == [1, 2]


async def test_an_unexpected_failure_keeps_its_details_to_the_log(
    serving: Serving, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug's text does not reach the client."""

    def fail(request: StepRequest) -> None:
        raise RuntimeError("secret")

    engine.hook = fail
    async with client_of(serving) as client:
        await client.start()
        await client.send(TWO_SEGMENTS)
        await client.send(STOP)
        assert await client.until_closed() == 1000
    assert {m["code"] for m in client.of_type("error")} == {"internal"}
    assert "secret" not in json.dumps(client.got) and "secret" in caplog.text


async def test_a_slow_reader_loses_partials_and_then_the_line(
    serving: Serving, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Finals pile up for a client that reads nothing; past the mark it is dropped."""
    terms = [f"term {index} " + "x" * 80 for index in range(200)]  # large events
    async with serving(max_unread_events=8) as server:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        async with connect(server.ws_url, sock=raw, max_queue=1, close_timeout=0.1) as client:
            await client.start(glossary={"terms": terms})
            client.socket.transport.pause_reading()
            with pytest.raises(websockets.ConnectionClosed):
                async with asyncio.timeout(20):
                    while True:
                        await client.send(pcm(tone(0.5), silence(0.6)))
                        await asyncio.sleep(0.01)
            await until(lambda: server.hub.sessions == 0)
    assert engine.sessions == {}
    assert "does not read its events" in caplog.text


async def test_a_slow_engine_thins_partials_out(serving: Serving, engine: FakeEngine) -> None:
    """With steps slower than the partial interval finals still all come, with few steps."""
    engine.step_s = 0.3
    async with client_of(serving) as client:
        await client.start(options={"partial_interval_ms": 100})
        await client.send(pcm(*[tone(2), silence(1)] * 3))
        await client.send(STOP)
        await client.until_closed()
    assert [m["segment_id"] for m in client.of_type("final")] == [1, 2, 3]
    assert len(engine.requests) <= 6


async def test_a_backlog_stops_the_reading(serving: Serving, engine: FakeEngine) -> None:
    """A client faster than the engine is held back; nothing is lost."""
    engine.step_s = 0.05
    async with client_of(serving, max_backlog_s=15) as client:
        await client.start(options={"stats_interval_ms": 500})
        for _ in range(20):
            await client.send(pcm(tone(3), silence(0.6)))
        await client.send(STOP)
        assert await client.until_closed() == 1000
    most_lag_s = max([m["lag_s"] for m in client.of_type("stats")], default=0.0)
    assert most_lag_s <= 15 + 1
    assert len(client.of_type("final")) == 20
