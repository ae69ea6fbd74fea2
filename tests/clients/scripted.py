"""A websocket server that speaks the native protocol from a script, one handler a connection."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve


class Peer:
    """The server's end of one connection, with what the client sent so far."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.texts: list[dict[str, Any]] = []
        self.audio = b""
        self._seq = 0

    async def send(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self._seq += 1
        await self.socket.send(json.dumps({"type": kind, "seq": self._seq, **fields}))

    async def start(self) -> dict[str, Any]:
        """Take the start message and accept it; gives the message."""
        start = await self.text("start")
        await self.send(
            "session.started",
            session_id="s1",
            protocol=1,
            audio=start["audio"],
            language=start["language"],
            task=start["task"],
            options=start["options"],
            glossary={"version": 1, "terms": 0, "rejected": [], "rejected_count": 0},
        )
        return start

    async def text(self, kind: str) -> dict[str, Any]:
        """Receive until a message of this type has come."""
        while not (self.texts and self.texts[-1]["type"] == kind):
            await self._receive()
        return self.texts[-1]

    async def heard(self, n_bytes: int) -> bytes:
        """Receive until this much audio has come."""
        while len(self.audio) < n_bytes:
            await self._receive()
        return self.audio

    async def end(self) -> None:
        """Take stop, answer it, close."""
        await self.text("stop")
        await self.send("session.ended", audio_s=len(self.audio) / 32_000)
        await self.socket.close(1000)

    async def _receive(self) -> None:
        message = await self.socket.recv()
        if isinstance(message, bytes):
            self.audio += message
        else:
            self.texts.append(json.loads(message))


Handler = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_server(*handlers: Handler) -> AsyncIterator[tuple[str, list[Peer]]]:
    """Serve connections by ``handlers`` in turn; gives the address and the peers as they come."""
    peers: list[Peer] = []
    failures: list[BaseException] = []

    async def handle(socket: ServerConnection) -> None:
        peers.append(Peer(socket))
        try:
            await handlers[len(peers) - 1](peers[-1])
        except AssertionError as failure:
            failures.append(failure)

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws", peers
    assert not failures, failures
