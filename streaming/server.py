"""Everything that is specific to the transport: uvicorn with its ``websockets`` implementation.

uvicorn stops reading from a socket while the application has not taken the last message, and holds
``send`` back while the peer does not read; both pressures are what the runner relies on. Five of
its habits do not fit long-lived sessions and are changed here: it closes every socket at once when
it stops, it resets the connection of a client that is still sending when it refuses a message, it
takes a client for dead whose pong waits behind a backlog of audio, it stops and resumes reading
for every single message, and it neither answers nor closes a handshake that cannot be parsed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets import http11

from streaming.app import create_app
from streaming.backend import Backend
from streaming.connection import ABORT_EXTENSION
from streaming.errors import SettingsError
from streaming.hub import Hub
from streaming.operations.admin_server import administered
from streaming.publishers.base import Publisher
from streaming.security.auth import warn_if_open
from streaming.settings import ServerSettings
from streaming.transport import tls
from streaming.transport.http_server import MAX_HEAD_BYTES, BoundedHTTP
from streaming.transport.sockets import listen

logger = logging.getLogger(__name__)

# Small, because what lies in these buffers is beyond the outbox's power to drop when it is stale.
SEND_BUFFER_BYTES = 64 * 1024
SMALL_BYTES = 64 * 1024  # of a message; as much as may be read after it before reading stops
LINGER_S = 5.0  # for the peer's answer to a close
QUIET_S = 0.2  # a refused peer that sends nothing for so long has seen why
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PatientWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, with the changes that the module's docstring names."""

    _heard_s = 0.0
    _refused = False  # without a session, since it did not parse

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound the buffers between the outbox and the peer."""
        super().connection_made(transport)
        self.close_timeout = LINGER_S
        self.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: http11.Request) -> None:
        """Let the application drop a peer that does not read and so can not be sent a close."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[ABORT_EXTENSION] = {"abort": self.transport.abort}

    def data_received(self, data: bytes) -> None:
        """Note the sign of life; answer a handshake that could not be parsed."""
        self._heard_s = self.loop.time()
        if self._refused:
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_handshake()

    def _refuse_handshake(self) -> None:
        """Send the answer that ``websockets`` has made, if any."""
        self._refused = True
        self.transport.write(b"".join(self.conn.data_to_send()) or BAD_REQUEST)
        self.close_sent = self.handshake_complete = True
        self._linger(self.loop.time() + LINGER_S)

    def send_receive_event_to_app(self) -> None:
        """Let one small message wait before reading stops.

        The application takes most messages at once, and to stop and go on are two system calls
        that cost a fifth of all that is done about a message of silence.
        """
        paused = self.read_paused
        if self.queue.empty() and sum(map(len, self.frames)) <= SMALL_BYTES:
            self.read_paused = True  # it is only told so
            super().send_receive_event_to_app()
            self.read_paused = paused
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Refuse a message, yet go on reading, so that the peer gets to see the close code."""
        if self.close_sent:
            return
        refusal = self.conn.close_sent
        code, reason = (refusal.code, refusal.reason) if refusal else (1006, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.transport.resume_reading()
        self._linger(self.loop.time() + LINGER_S)

    def _linger(self, until_s: float) -> None:
        """Close once the peer has stopped sending; before that the close would be lost in a reset.

        ``close_timer`` is set all the while, which keeps uvicorn from closing earlier.
        """
        now_s = self.loop.time()
        if now_s - self._heard_s >= QUIET_S or now_s >= until_s:
            self.transport.close()
        else:
            self.close_timer = self.loop.call_later(QUIET_S, self._linger, until_s)

    def keepalive_timeout(self) -> None:
        """Give up on a peer only if nothing at all came from it."""
        if self.read_paused or self._heard_s > self.ping_sent_at:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()
        self.loop.call_later(LINGER_S, self.transport.abort)

    async def send(self, message: Any) -> None:
        """Treat a refused peer as gone, and one that takes no notice of a close as well, later."""
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # or uvicorn would log that the application forgot it
        elif message["type"] == "websocket.close":
            self.loop.call_later(2 * LINGER_S, self.transport.abort)


class PatientServer(uvicorn.Server):
    """uvicorn's server, which sees sessions out before it stops.

    Attributes:
        ready: set once connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._hub = hub
        self._signalled = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell when connections are accepted."""
        await super().startup(sockets)
        self.ready.set()
        logger.info("clients are served", extra={"event": "server.started"})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have load balancers notice, accept no one, deliver last finals, then stop."""
        self._hub.leaving = True
        told = {"event": "server.stopping", "sessions": self._hub.sessions}
        logger.info("the server stops", extra=told)
        await asyncio.sleep(self._hub.settings.drain_delay_s)
        for listener in self.servers:
            listener.close()
        await self._hub.drain()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on the first signal; the second one ends the process, whatever it is at."""
        if self._signalled:
            logger.warning("ended by a second signal", extra={"event": "server.killed"})
            os._exit(128 + sig)
        self._signalled = self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on a signal; unlike uvicorn, do not die of it afterwards: the exit was clean.

        SIGHUP has the certificate read again, if there is one.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in STOP_SIGNALS}
        if self.config.ssl is not None:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: tls.renew(self.config))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts connections.

    Attributes:
        settings: what it was told.
        port: of the clients.
        hub: what its connections share.
        admin_port: of administrators, if they have one.
        vosk_port: of clients that speak Vosk's protocol on any path, if they have one.
    """

    settings: ServerSettings
    port: int
    hub: Hub
    admin_port: int | None
    vosk_port: int | None
    _server: PatientServer
    _serving: asyncio.Task[None]

    @property
    def url(self) -> str:
        """Address of the captions page."""
        return f"http{self._address(self.port)}/"

    @property
    def ws_url(self) -> str:
        """Address of the native protocol."""
        return f"ws{self._address(self.port)}/ws"

    @property
    def vosk_url(self) -> str:
        """Address of Vosk's protocol: of its own port, if it has one."""
        if self.vosk_port is None:
            return f"ws{self._address(self.port)}/vosk"
        return f"ws{self._address(self.vosk_port)}/"

    def _address(self, port: int) -> str:
        host = self.settings.host
        secure = "s" if self.settings.ssl_certfile else ""
        return f"{secure}://{f'[{host}]' if ':' in host else host}:{port}"

    async def stop(self) -> None:
        """Shut down cleanly; returns when the last session has ended."""
        self._server.should_exit = True
        await self.stopped()

    async def stopped(self) -> None:
        """Wait until the server was told to stop and has."""
        await asyncio.shield(self._serving)


@asynccontextmanager
async def running(
    settings: ServerSettings, engine: Backend, publishers: Sequence[Publisher] = ()
) -> AsyncIterator[Running]:
    """Serve beside the body; leaving it shuts down cleanly.

    Raises:
        SettingsError: the address cannot be listened on, or the certificate cannot be read.
        GlossaryError: a glossary of the settings cannot be read.
    """
    warn_if_open(settings.host, settings.keys_file)
    hub = Hub(settings, engine, publishers)
    async with AsyncExitStack() as stack:
        ports = [port for port in (settings.port, settings.vosk_port) if port is not None]
        listeners = [stack.enter_context(listen(settings.host, port)) for port in ports]
        port, *further = [listener.getsockname()[1] for listener in listeners]
        vosk_port = further[0] if further else None
        server = PatientServer(_uvicorn_config(settings, hub, vosk_port), hub)
        admin_port = await _administer(stack, hub, server)
        await hub.start()
        serving = asyncio.create_task(server.serve(sockets=listeners))
        try:
            await server.ready.wait()
            yield Running(settings, port, hub, admin_port, vosk_port, server, serving)
        finally:
            server.should_exit = True
            await serving
            await hub.stop()


def serve(
    settings: ServerSettings,
    engine: Backend,
    publishers: Sequence[Publisher] = (),
    on_ready: Callable[[Running], None] = lambda server: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then deliver last finals and return.

    Args:
        settings: see ``ServerSettings``.
        engine: shared by all sessions.
        publishers: get every event of every session.
        on_ready: called once connections are accepted.

    Raises:
        SettingsError: the address cannot be listened on, or the certificate cannot be read.
        GlossaryError: a glossary of the settings cannot be read.
    """

    async def run() -> None:
        async with running(settings, engine, publishers) as server:
            on_ready(server)
            await server.stopped()

    asyncio.run(run())


async def _administer(stack: AsyncExitStack, hub: Hub, server: PatientServer) -> int | None:
    """Serve administrators until the stack is unwound; returns their port, if they have one."""
    settings = hub.settings
    if settings.admin_port is None:
        return None

    def stop() -> None:
        server.should_exit = True

    warn_if_open(settings.admin_host, settings.keys_file)
    listener = stack.enter_context(listen(settings.admin_host, settings.admin_port))
    await stack.enter_async_context(administered(hub, listener, stop))
    port: int = listener.getsockname()[1]
    return port


def _uvicorn_config(settings: ServerSettings, hub: Hub, vosk_port: int | None) -> uvicorn.Config:
    http11.MAX_LINE_LENGTH = MAX_HEAD_BYTES  # it parses the heads of websockets a second time
    config = uvicorn.Config(
        create_app(hub, vosk_port),
        # uvicorn calls what is called a class here with arguments of its own.
        http=partial(BoundedHTTP, request_timeout_s=settings.start_timeout_s),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ws=PatientWebSocket,
        ws_max_size=settings.max_message_bytes,
        ws_ping_interval=settings.ping_s,
        ws_ping_timeout=settings.ping_s,
        ws_per_message_deflate=False,  # speech hardly shrinks, and two cores have better to do
        lifespan="off",
        log_config=None,
        log_level="warning",  # below it are query strings, which may hold keys, and messages
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(LINGER_S),
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        ssl_context_factory=tls.hardened if settings.ssl_certfile else None,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"cannot use certificate {settings.ssl_certfile}: {error}") from error
    return config
