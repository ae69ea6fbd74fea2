"""What clients cost that say nothing: connected only, muted, in a quiet room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from clients.client import CaptionClient
from streaming.bench.process import ProcessMeter
from streaming.bench.talker import CHUNK_SAMPLES, NO_RETRY, RATE_HZ, Pcm, Talk, paced

SETTLE_S = 2.0
NOISE_S = 30.0  # over and over


@dataclass(frozen=True, kw_only=True)
class Idle:
    """The server's CPU in percent of one core with so many clients that say nothing.

    Attributes:
        clients: connected.
        empty: with none of them.
        silent: they send nothing.
        muted: they send zeros, as a muted microphone does.
        room: they send the noise of a quiet room, which the voice detector has to hear.
    """

    clients: int
    empty: float
    silent: float
    muted: float
    room: float


async def idle(url: str, clients: int, seconds: float, meter: ProcessMeter) -> Idle:
    """Measure; each state takes ``seconds``."""
    empty = await _cpu_percent(seconds, meter)
    zeros, noise = np.zeros(RATE_HZ, np.int16), Talk([], 1.0, seed=1).silence(NOISE_S)
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(_session(url)) for _ in range(clients)]
        silent = await _cpu_percent(seconds, meter)
        muted, room = [
            await _while_sending(sessions, audio, lambda: _cpu_percent(seconds, meter))
            for audio in (zeros, noise)
        ]
    return Idle(clients=clients, empty=empty, silent=silent, muted=muted, room=room)


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[CaptionClient]:
    options = {"stats_interval_ms": 0}
    async with CaptionClient(url, glossary=[], options=options, retry=NO_RETRY) as client:
        yield client


async def _while_sending(
    sessions: list[CaptionClient], audio: Pcm, measure: Callable[[], Awaitable[float]]
) -> float:
    senders = [asyncio.create_task(_send(client, audio)) for client in sessions]
    try:
        return await measure()
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


async def _send(client: CaptionClient, audio: Pcm) -> None:
    async for chunk in paced(_endless(audio), pace=1.0):
        await client.send(chunk)


def _endless(audio: Pcm) -> Iterator[Pcm]:
    while True:
        yield from np.split(audio, range(CHUNK_SAMPLES, len(audio), CHUNK_SAMPLES))


async def _cpu_percent(seconds: float, meter: ProcessMeter) -> float:
    await asyncio.sleep(SETTLE_S)
    meter.cpu_percent()
    await asyncio.sleep(seconds)
    return round(meter.cpu_percent(), 1)
