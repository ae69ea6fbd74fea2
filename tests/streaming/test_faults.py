"""What goes wrong on purpose or by accident hurts nobody but who caused it, and loses nothing."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from a2p_engine.types import StepRequest
from clients import CaptionClient, Event, Final, Reconnected, RetryPolicy
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

TALK = pcm(*[part for length in (1.0, 1.5, 0.7, 2.0) for part in (silence(0.7), tone(length))])
PIECE = 3_200  # 0.1 s
START = '{"type":"start","options":{"vad":"energy","stats_interval_ms":0}}'

SERVE = """
import sys
from streaming.server import serve
from streaming.settings import ServerSettings
from tests.streaming.fake_engine import FakeEngine
serve(
    ServerSettings.load(port=int(sys.argv[1])),
    FakeEngine(step_s=0.02),
    on_ready=lambda server: print(server.port, flush=True),
)
"""


class ServerProcess:
    """A server in a process of its own, which can be killed and started again."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, on the port of the last time."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVE, str(self.port), stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def signal(self, number: signal.Signals) -> None:
        """Send a signal; a deadly one is waited for."""
        assert self._process is not None
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            await self._process.wait()


@asynccontextmanager
async def server_process() -> AsyncIterator[ServerProcess]:
    """A server process; it is killed in the end."""
    server = ServerProcess()
    await server.start()
    try:
        yield server
    finally:
        await server.signal(signal.SIGKILL)


async def talk(port: int, at: dict[int, Callable[[], Awaitable[None]]]) -> list[Event]:
    """Speak at five times real-time pace; ``at`` says what happens when."""
    happening: list[asyncio.Task[None]] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(0, len(TALK) // PIECE + 1):
            if number in at:
                happening.append(asyncio.ensure_future(at[number]()))
            yield TALK[number * PIECE : (number + 1) * PIECE]
            await asyncio.sleep(0.02)

    retry = RetryPolicy(first_delay_s=0.05, max_delay_s=0.2, attempts=100)
    options = {"vad": "energy", "stats_interval_ms": 0}
    client = CaptionClient(f"ws://127.0.0.1:{port}/ws", options=options, retry=retry)
    async with asyncio.timeout(60), client:
        events = [event async for event in client.caption(pieces())]
    await asyncio.gather(*happening)
    return events


def spans(events: list[Event]) -> list[tuple[float, float]]:
    """Where the finals lie."""
    found = [event for event in events if isinstance(event, Final)]
    return [(round(final.start_s, 3), round(final.end_s, 3)) for final in found]


@pytest.mark.parametrize("moment", [14, 25, 40])
async def test_a_killed_server_costs_no_sentence(moment: int) -> None:
    """Kill -9 in mid-utterance: the client recovers with the next process and repeats nothing."""
    async with server_process() as server:
        unbroken = spans(await talk(server.port, {}))

        async def crash() -> None:
            await server.signal(signal.SIGKILL)
            await server.start()

        events = await talk(server.port, {moment: crash})
    assert len(unbroken) == 4 and spans(events) == unbroken
    assert [event.resumed for event in events if isinstance(event, Reconnected)] == [False]


async def test_a_frozen_server_goes_on_where_it_was() -> None:
    """A process that stands still for a while, as on a laptop that sleeps, loses nothing."""
    async with server_process() as server:
        unbroken = spans(await talk(server.port, {}))

        async def freeze() -> None:
            await server.signal(signal.SIGSTOP)
            await asyncio.sleep(1)
            await server.signal(signal.SIGCONT)

        assert spans(await talk(server.port, {25: freeze})) == unbroken


class RawClient:
    """A client that builds frames by itself, so that they can be wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def frame(self, opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
        """A masked frame."""
        return Frame(opcode, data, fin=fin).serialize(mask=True)

    async def trickle(self, data: bytes) -> None:
        """Send byte by byte, each in a packet of its own."""
        for value in data:
            self.writer.write(bytes([value]))
            await asyncio.sleep(0)


@asynccontextmanager
async def raw_client(server: Running) -> AsyncIterator[RawClient]:
    """A connection after its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    protocol = ClientProtocol(parse_uri(server.ws_url))
    protocol.send_request(protocol.connect())
    writer.write(b"".join(protocol.data_to_send()))
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()


async def undisturbed(client: Client) -> None:
    """A session beside all this still gets what it says."""
    await client.send(pcm(tone(1), silence(0.7)))
    await client.wait_for("final")


async def test_frames_in_pieces_of_one_byte(serving: Serving) -> None:
    """Neither TCP packets nor continuation frames of one byte each change a thing."""
    audio = pcm(silence(0.3), tone(0.5), silence(0.7))
    async with serving() as server, raw_client(server) as raw:
        raw.writer.write(raw.frame(Opcode.TEXT, START.encode()))
        await raw.trickle(raw.frame(Opcode.BINARY, audio[:4_000]))
        for at in range(4_000, 8_000):
            last = at == 7_999
            opcode = Opcode.BINARY if at == 4_000 else Opcode.CONT
            raw.writer.write(raw.frame(opcode, audio[at : at + 1], fin=last))
        raw.writer.write(raw.frame(Opcode.BINARY, audio[8_000:]))
        raw.writer.write(raw.frame(Opcode.TEXT, b'{"type":"stop"}'))
        async with asyncio.timeout(20):
            answer = await raw.reader.readuntil(b'"session.ended"')
    assert answer.count(b'"type": "final"') == 1 and b'"error"' not in answer


async def test_malformed_frames_cost_only_their_sender(serving: Serving) -> None:
    """Random bytes after the handshake end that connection, whatever they are."""
    chance = random.Random(1)
    async with (
        serving(max_sessions=1000, admission="fixed") as server,
        connect(server.ws_url) as other,
    ):
        await other.start()
        for _ in range(200):
            async with raw_client(server) as raw:
                if chance.random() < 0.5:
                    raw.writer.write(raw.frame(Opcode.TEXT, START.encode()))
                raw.writer.write(chance.randbytes(chance.randrange(1, 300)))
                raw.writer.write_eof()
                async with asyncio.timeout(10):
                    await raw.reader.read()
        await undisturbed(other)
        await until(lambda: server.hub.sessions == 1)


async def test_clients_that_vanish_leave_nothing(serving: Serving, engine: FakeEngine) -> None:
    """A hundred of them, at every stage of a session, and the server is as it was."""
    chance = random.Random(2)
    async with (
        serving(max_sessions=1000, admission="fixed") as server,
        connect(server.ws_url) as other,
    ):
        await other.start()
        for _ in range(100):
            async with connect(server.ws_url) as client:
                if chance.random() < 0.9:
                    await client.start()
                    await client.send(pcm(tone(chance.random() * 2)))
                await asyncio.sleep(chance.random() * 0.02)
                client.socket.transport.abort()
        await undisturbed(other)
        await until(lambda: server.hub.sessions == 1 and len(engine.sessions) == 1)


async def test_the_wall_clock_may_jump(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions are timed by their audio; a corrected clock ends and delays no session."""
    real = time.time
    async with serving() as server, connect(server.ws_url) as client:
        await client.start()
        await client.send(pcm(tone(1)))
        for hours in (5, -7):
            monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
            await undisturbed(client)
        first, second = client.of_type("final")[-2:]
        assert second["start_s"] > first["start_s"]


async def test_a_failing_model_costs_one_session_its_words(
    serving: Serving, engine: FakeEngine
) -> None:
    """An exception in every step of one session leaves the other one alone."""
    broken: set[str] = set()

    def fail(request: StepRequest) -> None:
        if request.session in broken:
            raise RuntimeError("out of memory")

    engine.hook = fail
    async with serving() as server, connect(server.ws_url) as a, connect(server.ws_url) as b:
        await a.start()
        broken.update(engine.sessions)
        await b.start()
        await asyncio.gather(a.send(pcm(tone(1), silence(0.7))), undisturbed(b))
        await a.send({"type": "stop"})
        assert await a.until_closed() == 1000
        await undisturbed(b)
    assert [m["code"] for m in a.of_type("error")] == ["internal"] and not a.of_type("final")


async def test_open_sockets_that_say_nothing_are_closed(serving: Serving) -> None:
    """A peer that never finishes its request does not hold a file descriptor for ever."""
    async with serving(start_timeout_s=0.3) as server:
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in pairs[::2]:
            writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(10):
            assert all([await reader.read() == b"" for reader, _ in pairs])
        for _, writer in pairs:
            writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes moments."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
