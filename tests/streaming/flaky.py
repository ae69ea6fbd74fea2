"""A TCP proxy in front of a server, for all that happens to connections on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FlakyProxy:
    """Passes bytes on until told otherwise.

    Attributes:
        port: where clients connect.
        connections: how many have come so far.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._target_port = target_port
        self._links: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._stalled: set[asyncio.StreamWriter] = set()

    @property
    def ws_url(self) -> str:
        """The native endpoint behind the proxy."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def retarget(self, port: int) -> None:
        """Lead to another server from now on, as if the first had been restarted."""
        self._target_port = port
        self.cut()

    def cut(self) -> None:
        """Reset all connections on both sides."""
        for link in self._links:
            for writer in link:
                writer.transport.abort()
        self._links.clear()

    def stall(self) -> None:
        """Swallow what the present connections send from now on, and tell nobody: half-open."""
        for link in self._links:
            self._stalled.update(link)

    def cut_clients(self) -> None:
        """Reset the side of the clients only; the server goes on believing in them."""
        self.stall()
        for client, _ in self._links:
            client.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        self.connections += 1
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._links.append((writer, onward))
        await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if writer not in self._stalled:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        if writer not in self._stalled:
            writer.close()


@asynccontextmanager
async def flaky_proxy(target_port: int) -> AsyncIterator[FlakyProxy]:
    """A proxy on a free port."""
    proxy = FlakyProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.sleep(0)
