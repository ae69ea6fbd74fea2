"""A route for clients that can be told a port but no path, or that choose their paths freely."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.routing import Match, WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket


class PortRoute(WebSocketRoute):
    """Takes every websocket of one port, whatever its path.

    Args:
        port: on which the server itself listens, not that of a proxy in front of it.
        endpoint: serves the websocket.
    """

    def __init__(self, port: int, endpoint: Callable[[WebSocket], Awaitable[None]]) -> None:
        super().__init__("/{path:path}", endpoint)
        self._port = port

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See starlette's ``BaseRoute``."""
        server = scope.get("server")
        if server is None or server[1] != self._port:
            return Match.NONE, {}
        return super().matches(scope)
