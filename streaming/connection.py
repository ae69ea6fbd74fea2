"""One client's connection: reading, working, reporting and writing beside one another.

It ends when the first of them ends: the worker when the session has ended, the reader when the
client has gone or broken the protocol, any of them on an error. Then what is still to be told is
written, and the socket is closed with the code that says why. A session that can be resumed stays
behind for a while when its client is lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, NoReturn, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from a2p_engine.errors import A2PError
from streaming.commands import Audio, Command, Discard, EditGlossary, Flush, Resume, Start, Stop
from streaming.dialects.base import Dialect, Goodbye, Message
from streaming.dialects.native import Native
from streaming.errors import (
    BadStart,
    IdleTimeout,
    ProtocolError,
    RateLimited,
    ServerFull,
    ShuttingDown,
    SlowReader,
    StartTimeout,
    TakenOver,
    answer_to,
)
from streaming.hub import Hub
from streaming.live_session import LiveSession
from streaming.operations import logs
from streaming.operations.failures import for_log
from streaming.outbox import Outbox
from streaming.runner import SessionRunner
from streaming.security.auth import Client
from streaming.security.limits import Flow, FlowLimits

logger = logging.getLogger(__name__)

GOODBYE_TIMEOUT_S = 5.0  # how long a client may take to read its last events
LEFT_ON_PURPOSE = {1000, 1001}  # close codes of clients that will not come back
Result = TypeVar("Result")

ABORT_EXTENSION = "a2p.abort"  # scope extension of server.py that drops a connection at once


class Connection:
    """Serves one WebSocket from accept to close, in the dialect of its route."""

    def __init__(self, websocket: WebSocket, hub: Hub, dialect: Dialect, client: Client) -> None:
        self._socket = websocket
        self._hub = hub
        self._client = client
        self._flow = Flow(
            FlowLimits(
                max_pace=hub.settings.max_pace, messages_per_s=hub.settings.max_messages_per_s
            )
        )
        self._dialect = dialect
        self._outbox = self._new_outbox()
        self._session: LiveSession | None = None
        self._commands: deque[Command] = deque()  # received, not yet carried out
        self._writer: asyncio.Task[NoReturn] | None = None
        self._shutdown = asyncio.Event()
        self._taken_over = False
        self._stopped = False

    def shut_down(self) -> None:
        """Deliver last finals and close, soon."""
        self._shutdown.set()

    def take_over(self) -> None:
        """Leave the session to the connection that resumed it; nothing is written from now on."""
        self._taken_over = True
        if self._writer is not None:
            self._writer.cancel()

    async def serve(self) -> None:
        """Serve the client until it or the server has had enough."""
        logs.mark(dialect=self._dialect.name)
        await self._socket.accept(subprotocol=self._dialect.subprotocol)
        self._write_from(self._outbox)
        try:
            error = await self._run()
            self._note_end(error)
            await self._leave(error)
            await self._say_goodbye(error)
        finally:
            self._hub.release(self)
            await _cancel(self._writer)

    async def _run(self) -> Exception | None:
        """Run the session; returns what ended it, None for good order."""
        try:
            self._hub.admit(self, may_resume=isinstance(self._dialect, Native))
            self._react(*self._dialect.greet())
            first = await _first_of(self._first_command(), self._refuse_at_shutdown())
            self._session = await self._join(first)
            await self._serve_session(self._session)
        except (A2PError, WebSocketDisconnect) as error:
            return error
        except Exception as error:
            told = {"event": "session.failed"}
            logger.error("session failed", exc_info=for_log(error), extra=told)
            return error
        return None

    async def _serve_session(self, session: LiveSession) -> None:
        writer = self._writer
        assert writer is not None  # it runs from the beginning
        await _first_of(
            asyncio.shield(session.worker),
            self._read(session),
            self._stop_at_shutdown(session.runner),
            self._stop_when_due(session),
            self._report(session.runner, session.stats_interval_ms),
            session.outbox.overflow(),
            asyncio.shield(writer),
        )

    # The session: begun, taken up again, left behind

    async def _join(self, first: Command) -> LiveSession:
        if isinstance(first, Start):
            return await self._hub.open_session(
                first, self._client, self, self._dialect, self._outbox
            )
        if isinstance(first, Resume):
            return await self._resume(first)
        raise BadStart("the first message must begin a session")

    async def _resume(self, resume: Resume) -> LiveSession:
        """Go on where the client's last connection broke; what it missed is sent first."""
        session = self._hub.find_session(resume, self._client)
        assert isinstance(session.dialect, Native)  # no other dialect makes a ``Resume``
        missed = session.dialect.replay(resume.last_seq)
        resumed = await self._hub.rejoin(session, resume, self)
        await _cancel(self._writer)
        self._dialect, self._outbox = session.dialect, session.outbox
        self._write_from(session.outbox, (*session.dialect.send(resumed), *missed))
        return session

    def _note_end(self, error: Exception | None) -> None:
        """Count and log how it ended, or why there is no session."""
        outcome = "ok" if error is None else answer_to(error).code
        if isinstance(error, WebSocketDisconnect):
            outcome = "client_left"
        if self._session is None:
            self._hub.metrics.session_refused(outcome)
        else:
            self._hub.metrics.connection_ended(outcome)
        event = "connection.ended" if self._session else "session.refused"
        logger.info("%s: %s", event, outcome, extra={"event": event, "outcome": outcome})

    async def _leave(self, error: Exception | None) -> None:
        """End the session, or leave it for a connection to come."""
        session, self._session = self._session, None
        if session is None or isinstance(error, TakenOver):
            return
        lost = isinstance(error, WebSocketDisconnect) and error.code not in LEFT_ON_PURPOSE
        if lost and session.token and not self._hub.draining:
            self._hub.keep(session, self)
        else:
            await self._hub.end_session(session)

    # Reading

    async def _first_command(self) -> Command:
        native = isinstance(self._dialect, Native)
        timeout_s = self._hub.settings.start_timeout_s if native else None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next_command()
        except TimeoutError:
            raise StartTimeout(f"no 'start' message came within {timeout_s:g} s") from None

    async def _read(self, session: LiveSession) -> NoReturn:
        await self._carry_out_all(session)  # what came together with the start
        while True:
            try:
                size_bytes = await self._receive()
            except IdleTimeout as error:
                await session.runner.end_early(error)
                await _for_ever()
            audio_s = await self._carry_out_all(session)
            await asyncio.sleep(self._flow.take(size_bytes, audio_s))

    async def _carry_out_all(self, session: LiveSession) -> float:
        """Carry out the commands that were received; returns how much audio they held, in s."""
        audio_s = 0.0
        while self._commands:
            command = self._commands.popleft()
            if self._stopped:
                continue  # audio that was under way when the client stopped
            self._stopped = isinstance(command, Stop)
            audio_s += await _carry_out(command, session.runner)
        try:
            session.ticket.hear(audio_s)
        except RateLimited as error:
            await session.runner.end_early(error)
        return audio_s

    async def _next_command(self) -> Command:
        while not self._commands:
            size_bytes = await self._receive()
            if not self._commands:
                await asyncio.sleep(self._flow.take(size_bytes))
        return self._commands.popleft()

    async def _receive(self) -> int:
        """React to the next message; returns its size in bytes, or characters."""
        message = await self._next_message()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        data: str | bytes = message.get("text") or message.get("bytes") or ""
        try:
            if message.get("text") is not None:
                self._react(*self._dialect.receive_text(message["text"]))
            else:
                self._react(*self._dialect.receive_bytes(message["bytes"]))
        except ProtocolError as error:
            answer = self._dialect.refuse(error)
            if answer is None:
                raise
            self._react((), answer)
        return len(data)

    async def _next_message(self) -> Any:
        own_s = self._dialect.idle_timeout_s
        limit_s = min(self._hub.settings.max_idle_s, math.inf if own_s is None else own_s)
        try:
            async with asyncio.timeout(limit_s):
                return await self._socket.receive()
        except TimeoutError:
            raise IdleTimeout(f"nothing came for {limit_s:g} s") from None

    def _react(self, commands: Sequence[Command], replies: Sequence[Message]) -> None:
        self._commands.extend(commands)
        for reply in replies:
            self._outbox.put(reply)

    # Stopping

    async def _refuse_at_shutdown(self) -> NoReturn:
        await self._shutdown.wait()
        raise ShuttingDown("the server is stopping")

    async def _stop_at_shutdown(self, runner: SessionRunner) -> NoReturn:
        await self._shutdown.wait()
        text = "the server is stopping; what was said so far has its finals"
        await runner.end_early(ShuttingDown(text))
        await _for_ever()

    async def _stop_when_due(self, session: LiveSession) -> NoReturn:
        """End a session that has lasted long enough, or whose key is not valid any more."""
        try:
            await session.ticket.expired()
        except A2PError as error:
            await session.runner.end_early(error)
        await _for_ever()

    # Writing

    async def _report(self, runner: SessionRunner, interval_ms: int) -> NoReturn:
        """Tell statistics in intervals; 0 means never."""
        while interval_ms:
            await asyncio.sleep(interval_ms / 1000)
            self._outbox.put(runner.stats(self._hub.sessions))
        await _for_ever()

    def _new_outbox(self) -> Outbox:
        metrics = self._hub.metrics
        outbox = Outbox(self._hub.settings.max_unread_events, metrics.event_dropped)
        metrics.outboxes.add(outbox)
        return outbox

    def _write_from(self, outbox: Outbox, first: Sequence[str] = ()) -> None:
        self._writer = asyncio.create_task(self._write(outbox, first))

    async def _write(self, outbox: Outbox, first: Sequence[str]) -> NoReturn:
        try:
            for text in first:
                await self._socket.send_text(text)
            while True:
                message = await outbox.get()
                texts = (message,) if isinstance(message, str) else self._dialect.send(message)
                for text in texts:
                    await self._socket.send_text(text)
        except asyncio.CancelledError:
            if self._taken_over:
                raise TakenOver("the session goes on over another connection") from None
            raise

    async def _say_goodbye(self, error: Exception | None) -> None:
        """Write what is left, tell the error, close."""
        if isinstance(error, WebSocketDisconnect):
            return
        try:
            if isinstance(error, SlowReader):
                raise error
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._close(error)
        except (TimeoutError, SlowReader):
            told = {"event": "client.dropped"}
            logger.warning("dropped a client that does not read its events", extra=told)
            self._socket.scope["extensions"][ABORT_EXTENSION]["abort"]()
        except WebSocketDisconnect:
            logger.debug("the client left before its last events")

    async def _close(self, error: Exception | None) -> None:
        if isinstance(error, TakenOver):  # the queue belongs to another connection now
            await _cancel(self._writer)
            self._outbox = self._new_outbox()
            self._write_from(self._outbox)
        await self._write_all()
        end = self._goodbye(error)
        self._react((), end.messages)
        await self._write_all()
        await self._socket.close(end.code, end.reason)

    async def _write_all(self) -> None:
        """Wait until everything is written; raises what the writer ended with, if it ended."""
        assert self._writer is not None
        await _first_of(self._outbox.drained(), asyncio.shield(self._writer))

    def _goodbye(self, error: Exception | None) -> Goodbye:
        """Only after everything else is said, as the dialect may have to sum up."""
        retry_after_s: float | None = getattr(error, "retry_after_s", None)
        if isinstance(error, ServerFull) and retry_after_s is None:
            retry_after_s = self._hub.settings.retry_after_s
        return self._dialect.goodbye(error, retry_after_s)


async def _carry_out(command: Command, runner: SessionRunner) -> float:
    """Do what a command says; returns the length of its audio in s."""
    match command:
        case Audio(data):
            return await runner.receive_audio(data)
        case EditGlossary():
            await runner.edit_glossary(command)
        case Flush():
            runner.flush()
        case Discard(ended):
            await runner.discard(ended=ended)
        case Stop():
            await runner.stop()
    return 0.0


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


async def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
