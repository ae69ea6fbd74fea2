"""Stopping ``a2p serve``, as a service manager does: a process of its own, and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile
import soxr

from a2p_engine.types import Samples
from streaming.listener import Listener
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

RECORDING = Path(__file__).parents[2] / "examples" / "data" / "ward_round.flac"
REAL = "import sys; from streaming.cli import main; sys.exit(main(sys.argv[1:]))"
FAKE = """
import sys
from streaming.cli import common, main
from tests.streaming.fake_engine import FakeEngine
common.load_engine = lambda *_: FakeEngine(step_s={step_s})
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Server:
    """A server in a process of its own."""

    process: asyncio.subprocess.Process
    ws_url: str

    @property
    def url(self) -> str:
        """Address without a path."""
        return self.ws_url.replace("ws://", "http://").removesuffix("/ws")

    def signal(self) -> float:
        """Have the process stop; returns when that was."""
        self.process.send_signal(signal.SIGTERM)
        return time.monotonic()

    async def ended(self, since_s: float) -> tuple[int | None, float, list[dict[str, Any]]]:
        """Exit status, how long it took, and what was logged."""
        _, errors = await asyncio.wait_for(self.process.communicate(), 60)
        took_s = time.monotonic() - since_s
        return self.process.returncode, took_s, [json.loads(line) for line in errors.splitlines()]


@asynccontextmanager
async def spawned(script: str, **settings: object) -> AsyncIterator[Server]:
    """``a2p serve`` with some settings, from the environment as in a container."""
    chosen = {"port": 0, "log_format": "json", "warm_up": False, **settings}
    variables = {f"A2P_{name.upper()}": str(value) for name, value in chosen.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, "serve"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
    )
    assert process.stdout is not None
    try:
        ready = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        yield Server(process, next(word for word in ready.split() if word.startswith("ws://")))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def speak(client: Client, duration_s: float = 2.0) -> None:
    """Be in the middle of a sentence."""
    await client.start()
    await client.send(pcm(silence(0.5), tone(duration_s)))
    await client.wait_for("speech.started")


async def test_open_sessions_get_their_finals() -> None:
    """All of them, whatever was said so far; then 1012, and exit status 0."""
    async with spawned(FAKE.format(step_s=0.2)) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(server.ws_url)) for _ in range(5)]
        await asyncio.gather(*map(speak, clients))
        told_s = server.signal()
        codes = await asyncio.gather(*(client.until_closed() for client in clients))
        status, took_s, log = await server.ended(told_s)
    assert codes == [1012] * 5
    for client in clients:
        (final,) = client.of_type("final")
        assert final["reason"] == "stop" and final["text"] == "w0 w1 w2 w3 w4 w5 w6 w7 w8"
        assert client.got[-1]["code"] == "shutting_down"
    assert status == 0 and took_s < 10
    (stopping,) = [record for record in log if record.get("event") == "server.stopping"]
    assert stopping["sessions"] == 5
    ended = [record for record in log if record.get("event") == "connection.ended"]
    assert len({record["session"] for record in ended}) == 5
    assert {record["outcome"] for record in ended} == {"shutting_down"}


async def test_a_message_is_heard_to_its_end(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends faster than it speaks loses nothing of a message that has arrived."""
    heard = Listener.hear

    def slowly(self: Listener, audio: Samples) -> list[float]:
        time.sleep(0.02)
        return heard(self, audio)

    monkeypatch.setattr(Listener, "hear", slowly)
    async with serving() as server, connect(server.ws_url) as client:
        await client.start(options={"partials": False})
        await client.send(pcm(*[silence(0.5), tone(1.0), silence(1.0)] * 12))
        await client.wait_for("speech.started")
        stopping = asyncio.create_task(server.stop())
        assert await client.until_closed() == 1012
        await stopping
    starts_s = [final["start_s"] for final in client.of_type("final")]
    assert starts_s == [pytest.approx(0.2 + 2.5 * index) for index in range(12)]


async def test_load_balancers_are_given_time() -> None:
    """The server says at once that it is not ready, yet serves old and new clients for a while."""
    async with (
        spawned(FAKE.format(step_s=0.01), drain_delay_s=1.5) as server,
        connect(server.ws_url) as client,
        httpx.AsyncClient() as http,
    ):
        await speak(client)
        assert (await http.get(server.url + "/readyz")).status_code == 200
        told_s = server.signal()
        await asyncio.sleep(0.4)
        answer = await http.get(server.url + "/readyz")
        assert answer.status_code == 503
        assert answer.json()["conditions"]["accepting"] != "true"
        assert (await http.get(server.url + "/healthz")).status_code == 200
        async with connect(server.ws_url) as late:
            await late.start()
        await client.send(pcm(tone(0.5), silence(1)))
        assert (await client.wait_for("final"))["reason"] == "endpoint"
        assert await client.until_closed() == 1012
        status, took_s, _ = await server.ended(told_s)
    assert status == 0 and 1.5 <= took_s < 8


async def test_a_second_signal_ends_it_at_once() -> None:
    """Whoever cannot wait for a step that takes half a minute need not."""
    async with spawned(FAKE.format(step_s=30)) as server, connect(server.ws_url) as client:
        await speak(client)
        server.signal()
        await asyncio.sleep(1)
        assert server.process.returncode is None
        status, took_s, log = await server.ended(server.signal())
    assert status == 128 + signal.SIGTERM and took_s < 2
    assert log[-1]["event"] == "server.killed"


async def test_patience_with_sessions_has_an_end() -> None:
    """Finals that do not come in time are given up; the client is told so all the same."""
    async with (
        spawned(FAKE.format(step_s=4), shutdown_timeout_s=0.5) as server,
        connect(server.ws_url) as client,
    ):
        await speak(client)
        told_s = server.signal()
        assert await client.until_closed() == 1012
        waited_s = time.monotonic() - told_s
        status, _, log = await server.ended(told_s)
    assert waited_s < 3 and status == 0
    assert any("did not end in time" in record["message"] for record in log)


@pytest.mark.slow
async def test_the_last_words_with_the_real_engine() -> None:
    """A sentence that is being spoken when the server stops is captioned to the last word."""
    audio, rate_hz = soundfile.read(RECORDING, dtype="float32")
    spoken = soxr.resample(audio, rate_hz, 16_000)[: 4 * 16_000]
    async with spawned(REAL, warm_up=True) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(server.ws_url)) for _ in range(2)]
        for client in clients:
            await client.start(options={"vad": "silero"})
            await client.send(pcm(spoken))
        await asyncio.gather(*(client.wait_for("speech.started") for client in clients))
        told_s = server.signal()
        codes = await asyncio.gather(*(client.until_closed() for client in clients))
        status, took_s, _ = await server.ended(told_s)
    assert codes == [1012, 1012] and status == 0 and took_s < 30
    one, other = (" ".join(m["text"] for m in client.of_type("final")) for client in clients)
    assert len(one.split()) >= 4 and one == other
