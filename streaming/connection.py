"""One client's connection: reading, working, reporting and writing beside one another.

It ends when the first of them ends: the worker when the session has ended, the reader when the
client has gone or broken the protocol, any of them on an error. Then what is still to be told is
written, and the socket is closed with the code that says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from a2p_engine.errors import A2PError
from streaming.errors import (
    BadCommand,
    BadStart,
    ServerFull,
    ShuttingDown,
    SlowReader,
    StartTimeout,
    answer_to,
    error_event,
)
from streaming.events import Error, Event
from streaming.hub import Hub
from streaming.outbox import Outbox
from streaming.protocol import Audio, Command, EditGlossary, Flush, Protocol, Start, Stop
from streaming.runner import SessionRunner

logger = logging.getLogger(__name__)

GOODBYE_TIMEOUT_S = 5.0  # how long a client may take to read its last events
NORMAL_CLOSE = 1000
Result = TypeVar("Result")

ABORT_EXTENSION = "a2p.abort"  # scope extension of server.py that drops a connection at once


class Connection:
    """Serves one WebSocket from accept to close."""

    def __init__(self, websocket: WebSocket, hub: Hub) -> None:
        self._socket = websocket
        self._hub = hub
        self._protocol = Protocol(hub.offer)
        self._outbox = Outbox(hub.settings.max_unread_events)
        self._shutdown = asyncio.Event()
        self._muted = False

    def shut_down(self) -> None:
        """Deliver last finals and close, soon."""
        self._shutdown.set()

    async def serve(self) -> None:
        """Serve the client until it or the server has had enough."""
        await self._socket.accept()
        writer = asyncio.create_task(self._write())
        try:
            await self._say_goodbye(writer, await self._run(writer))
        finally:
            self._hub.release(self)
            await _cancel(writer)

    async def _run(self, writer: asyncio.Task[None]) -> Exception | None:
        """Run the session; returns what ended it, None for good order."""
        try:
            self._hub.admit(self)
            start = await _first_of(self._receive_start(), self._refuse_at_shutdown())
            runner = await self._hub.open_session(start, self._tell)
            await self._run_session(runner, start, writer)
        except (A2PError, WebSocketDisconnect) as error:
            return error
        except Exception as error:
            logger.exception("session failed")
            return error
        return None

    async def _run_session(
        self, runner: SessionRunner, start: Start, writer: asyncio.Task[None]
    ) -> None:
        worker = asyncio.create_task(runner.work())
        try:
            await _first_of(
                asyncio.shield(worker),
                self._read(runner),
                self._stop_at_shutdown(runner),
                self._report(runner, start.options.stats_interval_ms),
                self._outbox.overflow(),
                asyncio.shield(writer),
            )
        finally:
            if self._hub.publishes and not worker.done():
                await self._wind_up(runner, worker)
            await _cancel(worker)
            await runner.close()

    async def _wind_up(self, runner: SessionRunner, worker: asyncio.Task[None]) -> None:
        """Have the last words captioned for publishers, although the client will not see them."""
        self._muted = True
        try:
            async with asyncio.timeout(self._hub.settings.shutdown_timeout_s):
                await runner.stop()
                await asyncio.shield(worker)
        except (A2PError, TimeoutError) as error:
            logger.warning("a session was broken off: %s", error)

    # Reading

    async def _receive_start(self) -> Start:
        timeout_s = self._hub.settings.start_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                command = await self._receive()
        except TimeoutError:
            raise StartTimeout(f"no 'start' message came within {timeout_s:g} s") from None
        if not isinstance(command, Start):
            raise BadStart("the first message must be 'start'")
        return command

    async def _read(self, runner: SessionRunner) -> NoReturn:
        stopped = False
        while True:
            try:
                command = await self._receive()
            except BadCommand as error:
                self._outbox.put(error_event(error, fatal=False))
                continue
            if stopped:
                continue  # audio that was under way when the client stopped
            stopped = isinstance(command, Stop)
            await _carry_out(command, runner)

    async def _receive(self) -> Command:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text = message.get("text")
        if text is not None:
            return self._protocol.receive_text(text)
        return self._protocol.receive_bytes(message["bytes"])

    # Stopping

    async def _refuse_at_shutdown(self) -> NoReturn:
        await self._shutdown.wait()
        raise ShuttingDown("the server is stopping")

    async def _stop_at_shutdown(self, runner: SessionRunner) -> NoReturn:
        await self._shutdown.wait()
        await runner.shut_down()
        await _for_ever()

    # Writing

    def _tell(self, event: Event) -> None:
        if not self._muted:
            self._outbox.put(event)

    async def _report(self, runner: SessionRunner, interval_ms: int) -> NoReturn:
        """Tell statistics in intervals; 0 means never."""
        while interval_ms:
            await asyncio.sleep(interval_ms / 1000)
            self._outbox.put(runner.stats(self._hub.sessions))
        await _for_ever()

    async def _write(self) -> NoReturn:
        while True:
            event = await self._outbox.get()
            await self._socket.send_text(self._protocol.send(event))

    async def _say_goodbye(self, writer: asyncio.Task[None], error: Exception | None) -> None:
        """Write what is left, tell the error, close."""
        if isinstance(error, WebSocketDisconnect):
            return
        try:
            if isinstance(error, SlowReader):
                raise error
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                if error is not None:
                    self._outbox.put(self._fatal(error))
                await _first_of(self._outbox.drained(), asyncio.shield(writer))
                await self._close(error)
        except (TimeoutError, SlowReader):
            logger.warning("dropped a client that does not read its events")
            self._socket.scope["extensions"][ABORT_EXTENSION]["abort"]()
        except WebSocketDisconnect:
            logger.debug("the client left before its last events")

    def _fatal(self, error: Exception) -> Error:
        full = isinstance(error, ServerFull)
        retry_after_s = self._hub.settings.retry_after_s if full else None
        return error_event(error, fatal=True, retry_after_s=retry_after_s)

    async def _close(self, error: Exception | None) -> None:
        if error is None:
            await self._socket.close(NORMAL_CLOSE)
        else:
            answer = answer_to(error)
            await self._socket.close(answer.close, answer.code)


async def _carry_out(command: Command, runner: SessionRunner) -> None:
    match command:
        case Audio(data):
            await runner.receive_audio(data)
        case EditGlossary():
            runner.edit_glossary(command)
        case Flush():
            runner.flush()
        case Stop():
            await runner.stop()


async def _first_of(first: Awaitable[Result], *others: Awaitable[Any]) -> Result:
    """Wait until one ends, cancel the others; only the first may end with a result."""
    tasks = [asyncio.ensure_future(item) for item in (first, *others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = next(task for task in tasks if task in done)
        result: Result = ended.result()
        return result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _for_ever() -> NoReturn:
    while True:
        await asyncio.Event().wait()


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
