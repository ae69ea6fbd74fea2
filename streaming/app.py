"""The server's routes: sockets, captions page, health and information on one port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from a2p_engine.errors import A2PError
from streaming.audio.pcm import CHANNELS, PCM_ENCODINGS, SAMPLE_RATES_HZ
from streaming.commands import TASKS
from streaming.connection import Connection
from streaming.dialects import DIALECTS, DialectBuilder
from streaming.dialects.base import Handshake
from streaming.errors import answer_to
from streaming.events import PROTOCOL_VERSION
from streaming.glossaries.api import glossary_routes
from streaming.hub import Hub
from streaming.operations.routes import health_routes, metrics_routes
from streaming.security.auth import Client, Principal
from streaming.security.web import EXCEPTION_HANDLERS, middleware
from streaming.transport.port_route import PortRoute
from streaming.uploads.routes import transcription_routes
from streaming.vad import DETECTORS


def create_app(hub: Hub, vosk_port: int | None = None) -> Starlette:
    """The ASGI application around a hub; on ``vosk_port`` every path speaks Vosk's protocol."""

    def speaks(build: DialectBuilder) -> Callable[[WebSocket], Awaitable[None]]:
        async def socket(websocket: WebSocket) -> None:
            handshake = handshake_of(websocket)
            client = _identified(hub, handshake)
            dialect = build(handshake, hub.offer_to(client.principal), hub.settings)
            await Connection(websocket, hub, dialect, client).serve()

        return socket

    async def info(request: Request) -> JSONResponse:
        principal = hub.auth.authorise(request, "captions")
        return JSONResponse(describe(hub, principal))

    routes: list[BaseRoute] = [
        *(WebSocketRoute(path, speaks(build)) for path, build in DIALECTS.items()),
        *health_routes(hub),
        *transcription_routes(hub),
        *glossary_routes(
            hub.glossaries.service,
            max_upload_bytes=hub.settings.max_glossary_bytes,
            authorise=hub.auth.authorise,
        ),
        Route("/api/info", info),
    ]
    if vosk_port is not None:
        routes.insert(0, PortRoute(vosk_port, speaks(DIALECTS["/vosk"])))
    if hub.settings.admin_port is None:
        routes += metrics_routes(hub, hub.auth.authorise)
    if hub.settings.web_directory.is_dir():
        routes.append(Mount("/", StaticFiles(directory=hub.settings.web_directory, html=True)))
    return Starlette(
        routes=routes,
        middleware=middleware(hub.settings),
        exception_handlers=EXCEPTION_HANDLERS,
    )


def _identified(hub: Hub, handshake: Handshake) -> Client:
    """Who opens a websocket, if it may."""
    try:
        client = Client(hub.auth.identify(handshake), handshake.peer)
        client.principal.require("captions")
    except A2PError as error:
        hub.metrics.session_refused(answer_to(error).code)
        raise
    return client


def handshake_of(connection: HTTPConnection) -> Handshake:
    """What a client said in its HTTP request."""
    return Handshake(
        path=connection.url.path,
        query=tuple(connection.query_params.multi_items()),
        headers=dict(connection.headers),
        subprotocols=tuple(connection.scope.get("subprotocols", ())),
        peer=connection.client.host if connection.client else "",
    )


def describe(hub: Hub, principal: Principal) -> dict[str, Any]:
    """What a client may want to know before it connects."""
    settings = hub.settings
    return {
        "name": "A2P Live",
        "version": _version(),
        "protocol": PROTOCOL_VERSION,
        "speech_llm": hub.engine.speech_llm,
        "languages": list(hub.offer_to(principal).languages),
        "tasks": list(TASKS),
        "target_languages": list(hub.engine.target_languages),
        "glossaries": hub.glossaries.service.sizes(principal),
        "default_glossary": settings.default_glossary,
        "audio": {
            "encodings": list(PCM_ENCODINGS),
            "sample_rates_hz": list(SAMPLE_RATES_HZ),
            "channels": list(CHANNELS),
        },
        "vads": list(DETECTORS),
        "limits": {
            "max_sessions": settings.max_sessions,
            "max_message_bytes": settings.max_message_bytes,
            "start_timeout_s": settings.start_timeout_s,
        },
    }


def _version() -> str:
    try:
        return metadata.version("a2p-live")
    except metadata.PackageNotFoundError:
        return "unknown"
