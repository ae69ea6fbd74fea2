"""A client for tests: the ``websockets`` library and nothing in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.streaming.conftest import Serving

Message = dict[str, Any]

STOP: Message = {"type": "stop"}


class Client:
    """Sends what it is told and keeps what it got."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.got: list[Message] = []

    async def send(self, message: Message | bytes | str) -> None:
        """Send a message: bytes as binary, objects as JSON."""
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def start(self, **keys: Any) -> Message:
        """Start a session that hears by energy; returns ``session.started``."""
        options = {"vad": "energy", "stats_interval_ms": 0, **keys.pop("options", {})}
        await self.send({"type": "start", "options": options, **keys})
        return await self.wait_for("session.started")

    async def wait_for(self, kind: str) -> Message:
        """The next message of a type; the ones before it are kept in ``got``."""
        async with asyncio.timeout(10):
            while True:
                self.got.append(json.loads(await self.socket.recv()))
                if self.got[-1]["type"] == kind:
                    return self.got[-1]

    async def until_closed(self) -> int | None:
        """Read to the end; returns the close code."""
        async with asyncio.timeout(10):
            try:
                while True:
                    self.got.append(json.loads(await self.socket.recv()))
            except websockets.ConnectionClosed:
                return self.socket.close_code

    def of_type(self, kind: str) -> list[Message]:
        """Messages of a type so far."""
        return [message for message in self.got if message["type"] == kind]


@asynccontextmanager
async def connect(url: str, **options: Any) -> AsyncIterator[Client]:
    """Connect; leaving the block closes the connection."""
    async with websockets.connect(url, compression=None, **options) as socket:
        yield Client(socket)


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
