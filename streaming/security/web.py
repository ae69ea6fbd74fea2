"""What stands in front of all routes: origins, headers of pages, and how a refusal looks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from a2p_engine.errors import A2PError
from streaming.errors import (
    Forbidden,
    ProtocolError,
    RateLimited,
    ServerFull,
    ShuttingDown,
    StreamingError,
    Unauthorised,
    answer_to,
)
from streaming.security.auth import is_loopback
from streaming.security.limits import FailureLimit
from streaming.security.origin import ANY, LOOPBACK_NAMES, OriginPolicy
from streaming.settings import ServerSettings

logger = logging.getLogger(__name__)

STATUS: dict[type[StreamingError], int] = {
    ProtocolError: 400,  # in the URL; what comes later is answered in the connection
    Unauthorised: 401,
    Forbidden: 403,
    RateLimited: 429,
    ServerFull: 503,
    ShuttingDown: 503,
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Authorization", "X-API-Key", "If-Match", "OpenAI-Beta")


def refusal(error: A2PError, retry_after_s: float | None = None) -> JSONResponse:
    """The HTTP answer to who may not come in; also the denial of a websocket's handshake.

    Args:
        error: of a kind in ``STATUS``.
        retry_after_s: when to try again, for errors that do not say so themselves.
    """
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    wait_s = error.retry_after_s if isinstance(error, RateLimited) else retry_after_s
    if wait_s is not None:
        headers["Retry-After"] = str(max(1, round(wait_s)))
    body = {"error": {"code": answer_to(error).code, "message": str(error)}}
    return JSONResponse(body, status, headers)


async def refuse(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Exception handler of the application for the errors in ``STATUS``."""
    assert isinstance(error, A2PError)
    response = refusal(error)
    if not isinstance(connection, WebSocket):
        return response
    await connection.send_denial_response(response)
    return None


EXCEPTION_HANDLERS: dict[type[Exception], Any] = dict.fromkeys(
    (ProtocolError, Unauthorised, Forbidden, RateLimited, ServerFull), refuse
)


def middleware(settings: ServerSettings) -> list[Middleware]:
    """What every request passes before the routes, outermost first."""
    passed = [
        Middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors),
        Middleware(OriginGuard, policy=origin_policy(settings)),
    ]
    if settings.allowed_origins:
        # Strangers were turned away; this tells the browsers of those who are allowed.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=METHODS,
            allow_headers=REQUEST_HEADERS,
            expose_headers=("Retry-After", "ETag"),
        )
        passed.append(cors)
    return passed


def origin_policy(settings: ServerSettings) -> OriginPolicy:
    """The policy that settings ask for."""
    hosts: frozenset[str] | None = None
    if settings.allowed_hosts:
        hosts = LOOPBACK_NAMES | {host.lower() for host in settings.allowed_hosts}
    elif is_loopback(settings.host) and settings.keys_file is None:
        hosts = LOOPBACK_NAMES | {settings.host.lower()}
    if hosts is not None and ANY in hosts:
        hosts = None
    return OriginPolicy(origins=frozenset(settings.allowed_origins), hosts=hosts)


class OriginGuard:
    """Refuses what pages that may not use the server ask for, websockets and requests alike."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        self._app = app
        self._policy = policy
        self._refused = FailureLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._policy.check(headers.get("origin"), headers.get("host"))
        except Forbidden as error:
            self._log(scope, error)
            await refusal(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _log(self, scope: Scope, error: Forbidden) -> None:
        """One line, unless there were many from that address."""
        peer = scope["client"][0] if scope.get("client") else ""
        with suppress(RateLimited):
            self._refused.note(peer)
            logger.warning("refused a page that was opened at %s: %s", peer or "no address", error)


class SecurityHeaders:
    """Adds to every response what keeps browsers from misusing it."""

    def __init__(self, app: ASGIApp, frame_ancestors: Iterable[str] = ()) -> None:
        self._app = app
        ancestors = " ".join(("'self'", *frame_ancestors))
        self._headers = {
            # As in the page itself, where frame-ancestors would have no effect.
            "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; "
            f"form-action 'none'; frame-ancestors {ancestors}",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
