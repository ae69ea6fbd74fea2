"""The port for administrators: metrics, and what changes the server, apart from the clients'."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from streaming.hub import Hub
from streaming.operations.routes import admin_routes, health_routes, metrics_routes
from streaming.security.auth import is_loopback
from streaming.security.origin import LOOPBACK_NAMES, OriginPolicy
from streaming.security.web import EXCEPTION_HANDLERS, OriginGuard

LINGER_S = 1  # for answers that are under way when the server stops


def create_admin_app(hub: Hub, stop: Callable[[], None]) -> Starlette:
    """The ASGI application of the administrators' port; ``stop`` stops the whole server."""
    host = hub.settings.admin_host
    # A page that had its name point at this machine would otherwise pass for one of its own.
    names = LOOPBACK_NAMES | {host.lower()} if is_loopback(host) else None
    authorise = hub.auth.authorise
    return Starlette(
        routes=[
            *health_routes(hub),
            *metrics_routes(hub, authorise),
            *admin_routes(hub, authorise, stop),
        ],
        middleware=[Middleware(OriginGuard, policy=OriginPolicy(hosts=names))],
        exception_handlers=EXCEPTION_HANDLERS,
    )


@asynccontextmanager
async def administered(
    hub: Hub, listener: socket.socket, stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Serve administrators beside the body."""
    config = uvicorn.Config(
        create_admin_app(hub, stop),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LINGER_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the clients' one."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield
