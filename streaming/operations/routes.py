"""Routes for whoever runs the server: health, readiness, metrics, administration.

``/healthz`` and ``/readyz`` tell nothing worth hiding. ``/metrics`` is on the port of the clients
unless there is a port for administrators; what changes anything is on that port alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from streaming.errors import Forbidden
from streaming.hub import Hub
from streaming.operations.readiness import readiness
from streaming.security.keys import Scope

logger = logging.getLogger(__name__)

FRESH = {"cache-control": "no-store"}

# Raises Unauthorised, Forbidden or RateLimited; what it returns does not matter here.
Authorise = Callable[[HTTPConnection, Scope], object]


def health_routes(hub: Hub) -> list[BaseRoute]:
    """``/healthz``: the process is alive. ``/readyz``: it should be sent new clients."""

    async def health(_: Request) -> JSONResponse:
        status = "stopping" if hub.leaving else "ok"
        return JSONResponse({"status": status, "sessions": hub.sessions}, headers=FRESH)

    async def ready(_: Request) -> JSONResponse:
        state = readiness(hub)
        return JSONResponse(state, 200 if state["ready"] else 503, FRESH)

    return [Route("/healthz", health), Route("/readyz", ready)]


def metrics_routes(hub: Hub, authorise: Authorise) -> list[BaseRoute]:
    """``/metrics`` for whoever has the scope ``metrics``."""

    async def metrics(request: Request) -> Response:
        authorise(request, "metrics")
        text, content_type = hub.metrics.render(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type, **FRESH})

    return [Route("/metrics", metrics)]


def admin_routes(hub: Hub, authorise: Authorise, stop: Callable[[], None]) -> list[BaseRoute]:
    """What changes the server, for whoever has the scope ``admin``."""

    async def drain(request: Request) -> JSONResponse:
        _check(request, authorise)
        hub.cordon()
        logger.warning("no new sessions, on request", extra={"event": "admin.drain"})
        return JSONResponse({"sessions": hub.sessions})

    async def stop_server(request: Request) -> JSONResponse:
        _check(request, authorise)
        logger.warning("the server stops, on request", extra={"event": "admin.stop"})
        stop()
        return JSONResponse({"sessions": hub.sessions}, status_code=202)

    return [
        Route("/admin/drain", drain, methods=["POST"]),
        Route("/admin/stop", stop_server, methods=["POST"]),
    ]


def _check(request: Request, authorise: Authorise) -> None:
    """Authorise a change; a browser would send it for any page, so pages are refused altogether."""
    if "origin" in request.headers:
        raise Forbidden("requests from web pages are not accepted here")
    authorise(request, "admin")
