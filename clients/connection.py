"""A websocket that notices when the network is gone without having said so."""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.client import ClientConnection

logger = logging.getLogger(__name__)

PINGS = 3  # without a sign of life


class WatchedConnection(ClientConnection):
    """Breaks when nothing at all has come for as long as three of its pings take.

    A timeout of websockets' own wants the very pings answered. A server that has more audio than
    it can take reads no further for now, pings included; what it sends shows that it is there.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        assert self.ping_interval is not None
        self._silence_s = PINGS * self.ping_interval
        self._heard_s = self.loop.time()
        self._timer = self.loop.call_later(self._silence_s, self._check)

    def data_received(self, data: bytes) -> None:
        """Note that the server is there."""
        self._heard_s = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no longer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        due_s = self._heard_s + self._silence_s
        if self.loop.time() < due_s:
            self._timer = self.loop.call_at(due_s, self._check)
        else:
            logger.warning("nothing came for %.3g s: the connection is dead", self._silence_s)
            self.transport.abort()
