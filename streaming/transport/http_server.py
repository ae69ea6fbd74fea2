"""uvicorn's HTTP server, with limits on how much and how long a peer may say what it wants."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD_BYTES = 256 * 1024  # of a request; thousands of keyterms may stand in its address


class BoundedHTTP(H11Protocol):
    """Closes connections on which no request's head is completed in time.

    Args:
        request_timeout_s: for each head; bodies have no limit here, those who read them do.
    """

    def __init__(self, *args: Any, request_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_timeout_s = request_timeout_s
        self._last_cycle: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self.loop.call_later(self._request_timeout_s, self._watch)

    def _watch(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # closed, or a websocket by now
        working = self.cycle is not None and not self.cycle.response_complete
        if not working and self.cycle is self._last_cycle:
            self.transport.abort()
            return
        self._last_cycle = self.cycle
        self.loop.call_later(self._request_timeout_s, self._watch)
