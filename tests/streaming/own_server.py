"""A client with a server of its own, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, silence, tone
from tests.streaming.wire import Client, connect

TWO_SEGMENTS = pcm(silence(0.5), tone(2), silence(1), tone(1))
STOP = {"type": "stop"}


@asynccontextmanager
async def client_of(serving: Serving, **settings: Any) -> AsyncIterator[Client]:
    """A client of a server of its own."""
    async with serving(**settings) as server, connect(server.ws_url) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes moments."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
