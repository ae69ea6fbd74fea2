"""A live caption session over a websocket, as an asynchronous iterator of events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from clients.audio import AudioFormat
from clients.backlog import FRAME_BYTES, Backlog
from clients.connection import PINGS, WatchedConnection
from clients.errors import ClientError, ConnectError, ServerFull, SessionFailed, SessionRefused
from clients.events import (
    ErrorReported,
    Event,
    Final,
    Reconnected,
    Reconnecting,
    ServerEvent,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    parse_event,
)
from clients.messages import (
    Glossary,
    GlossaryEntry,
    Message,
    edit_messages,
    start_message,
    term_of,
)
from clients.resume import OpenSession
from clients.retry import RetryPolicy, address_of, close_code, reason_of, worth_retrying

logger = logging.getLogger(__name__)

UNKNOWN_SESSION = "unknown_session"  # the server's code for a session it does not keep any more
Answer = SessionStarted | SessionResumed  # to the first message
_LOST = (OSError, TimeoutError, ConnectionClosed, InvalidHandshake)


class CaptionClient:
    """Sends audio, yields events, and comes back by itself when the connection breaks.

    Use it as a context manager. One task sends while another iterates, or ``caption`` does both::

        async with CaptionClient("ws://localhost:8765/ws", glossary=["apixaban"]) as client:
            async for event in client.caption(stream_file("talk.wav")):
                ...

    A break of the connection costs nothing: the server keeps the session for a while, and what was
    missed on either side is sent again. When the server itself was restarted, a new session gets
    the audio since the last final again; times, segment ids and glossary edits continue. Either
    way no sentence is lost and none comes twice.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        audio: AudioFormat | None = None,
        language: str = "en",
        task: str = "transcribe",
        glossary: Glossary | None = None,
        options: Mapping[str, Any] | None = None,
        retry: RetryPolicy | None = None,
        backlog_s: float = 60.0,
        open_timeout_s: float = 10.0,
        start_timeout_s: float = 120.0,
        silence_s: float = 15.0,
    ) -> None:
        """Describe the session; entering the context connects.

        Args:
            url: the server's native endpoint, ``ws://host:port/ws``.
            api_key: for servers that ask for one.
            audio: format of the bytes given to ``send``, 16 kHz mono ``pcm_s16le`` by default.
            language: ISO 639-1 code of the speech.
            task: ``transcribe`` or ``translate``; the options ``target_language`` and
                ``source_text`` say into what, and whether what was said comes with it.
            glossary: name of a glossary of the server, a list of entries, or the protocol's own
                object with ``name`` and ``terms``; None takes the server's default, if any.
            options: the protocol's options, such as ``{"partial_interval_ms": 300}``, or
                ``{"threshold": "eager"}`` to have less probable terms offered as well.
            retry: when to reconnect.
            backlog_s: most audio kept for a reconnect; beyond it the oldest is dropped, which
                ``Reconnected.dropped_s`` reports.
            open_timeout_s: longest wait for a connection.
            start_timeout_s: longest wait for the session to start; a glossary that the server sees
                for the first time may take it a while.
            silence_s: a connection over which nothing came for so long, not even the answer to a
                ping, counts as broken.
        """
        self.url = url
        self.audio = audio or AudioFormat()
        self.retry = retry or RetryPolicy()
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._start = start_message(self.audio, language, task, glossary, options)
        self._open_timeout_s = open_timeout_s
        self._start_timeout_s = start_timeout_s
        self._silence_s = silence_s
        self._backlog = Backlog(self.audio, backlog_s)
        self._edits: dict[str, GlossaryEntry | None] = {}  # by term; None takes it out
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: nothing follows
        self._socket: ClientConnection | None = None  # None while disconnected
        self._sending = asyncio.Lock()  # audio of two senders must not interleave
        self._receiver: asyncio.Task[None] | None = None
        self._failure: ClientError | None = None
        self._retry_after_s: float | None = None
        self._session: OpenSession | None = None
        self._stopping = False
        self._done = asyncio.Event()
        self._offset_s = 0.0  # where the server's session begins in the client's time
        self._first_segment = 0  # added to the server's segment ids
        self._next_segment = 0

    async def __aenter__(self) -> Self:
        """Connect and start the session.

        Raises:
            ConnectError: the server cannot be reached.
            SessionRefused: it does not take the session (``ServerFull``: not now).
        """
        attempt = 0
        failure: ClientError
        while True:
            try:
                self._socket, started = await self._open(self._start)
                break
            except SessionRefused as error:
                failure, again, after_s = error, worth_retrying(error), error.retry_after_s
            except (*_LOST, InvalidURI) as error:
                failure = ConnectError(f"cannot reach {address_of(self.url)}: {reason_of(error)}")
                again, after_s = worth_retrying(error), None
            attempt += 1
            if not (self.retry.at_start and again and attempt <= self.retry.attempts):
                raise failure
            await asyncio.sleep(self.retry.delay_s(attempt, after_s))
        self._begin(started)
        self._receiver = asyncio.create_task(self._receive())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close at once; call ``stop`` before, if the last captions matter."""
        if self._receiver is not None:
            self._receiver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._receiver
        if self._socket is not None:
            await self._socket.close()

    async def send(self, pcm: bytes) -> None:
        """Send audio of any length; a sample may be split over two calls.

        While disconnected the audio is kept, within ``backlog_s``.

        Raises:
            ClientError: the session has failed for good.
        """
        self._check()
        self._backlog.append(pcm)
        async with self._sending:
            await self._write_audio()

    async def edit_glossary(
        self, add: Sequence[GlossaryEntry] = (), remove: Sequence[str] = ()
    ) -> None:
        """Add and remove terms from now on; ``GlossaryUpdated`` is the answer.

        Many terms go in several messages, each of which is answered.

        Raises:
            ClientError: the session has failed for good.
        """
        self._check()
        async with self._sending:
            self._edits |= dict.fromkeys(remove)
            self._edits |= {term_of(entry): entry for entry in add}
            await self._write_edits(add, remove)

    async def flush(self) -> None:
        """End the open segment now; its ``Final`` and then ``Flushed`` follow.

        Raises:
            ClientError: the session has failed for good.
        """
        self._check()
        async with self._sending:
            await self._write_flush()

    async def stop(self) -> None:
        """Say that the audio is over and wait until the last final has come.

        Events that arrive meanwhile stay available to the iterator.

        Raises:
            ClientError: the session failed before its end.
        """
        self._check()
        async with self._sending:
            if not self._stopping:
                self._stopping = True
                await self._write({"type": "stop"})
        await self._done.wait()
        self._check()

    async def caption(self, source: AsyncIterable[bytes]) -> AsyncIterator[Event]:
        """Send all of ``source``, then stop; yield the events meanwhile.

        Raises:
            ClientError: the session failed before its end.
        """
        feeder = asyncio.create_task(self._feed(source))
        try:
            async for event in self:
                yield event
            await feeder
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events until the session has ended.

        Raises:
            ClientError: the session failed before its end.
        """
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)  # a second iteration ends at once as well
        self._check()

    async def _feed(self, source: AsyncIterable[bytes]) -> None:
        try:
            async for chunk in source:
                await self.send(chunk)
            await self.stop()
        except Exception:
            self._end(None)  # the iterator must not wait for a session that gets no more audio
            raise

    async def _open(
        self, first: Message
    ) -> tuple[ClientConnection, SessionStarted | SessionResumed]:
        """Connect, send the first message and take its answer."""
        socket = await connect(
            self.url,
            additional_headers=self._headers,
            open_timeout=self._open_timeout_s,
            compression=None,
            create_connection=WatchedConnection,
            ping_interval=self._silence_s / PINGS,
            ping_timeout=None,
            max_queue=None,  # events are queued without a limit anyway
        )
        try:
            # A full server may have closed already; its reason is still there to be read.
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps(first))
            async with asyncio.timeout(self._start_timeout_s):
                return socket, await self._take_answer(socket)
        except BaseException:
            await socket.close()
            raise

    async def _take_answer(self, socket: ClientConnection) -> Answer:
        while True:
            event = self._parse(await socket.recv())
            if isinstance(event, ErrorReported) and event.fatal:
                raise await self._refusal(socket, event)
            self._events.put_nowait(event)
            if isinstance(event, Answer):
                return event

    async def _refusal(self, socket: ClientConnection, error: ErrorReported) -> SessionRefused:
        """What a fatal error means; its close code says whether to come back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._open_timeout_s):
                await socket.wait_closed()
        full = error.code == "full" or error.retry_after_s is not None
        return (ServerFull if full else SessionRefused)(
            error.message,
            code=error.code,
            close_code=socket.close_code or 1006,
            retry_after_s=error.retry_after_s,
        )

    def _begin(self, answer: Answer) -> None:
        assert isinstance(answer, SessionStarted)  # what a ``start`` is answered with
        self._session = OpenSession.of(answer, self._backlog.sent)
        self._session.note(answer)

    async def _receive(self) -> None:
        """Background task: events to the queue, reconnects when the connection breaks."""
        loop = asyncio.get_running_loop()
        attempts, connected_at = 0, loop.time()
        try:
            while not self._done.is_set():
                error = await self._receive_until_closed()
                if self._done.is_set():
                    break
                # A server that fails on the audio we replay must not be asked for ever.
                if loop.time() - connected_at > self.retry.max_delay_s:
                    attempts = 0
                attempts = await self._reconnect(error, attempts)
                connected_at = loop.time()
        except ClientError as failure:
            self._end(failure)
        except Exception as bug:  # a waiting consumer must learn of it
            self._end(ClientError(f"the client failed: {bug!r}"))
            raise

    async def _receive_until_closed(self) -> ConnectionClosed:
        assert self._socket is not None
        try:
            while True:
                self._take(self._parse(await self._socket.recv()))
        except ConnectionClosed as error:
            self._socket = None
            return error

    def _parse(self, message: str | bytes) -> ServerEvent:
        try:
            data = json.loads(message)
        except ValueError as error:
            raise SessionFailed(f"the server sent no JSON: {error}", close_code=1007) from error
        if not isinstance(data, dict):
            raise SessionFailed("the server sent JSON that is no object", close_code=1007)
        return parse_event(data, shift_s=self._offset_s, shift_segments=self._first_segment)

    def _take(self, event: ServerEvent) -> None:
        self._events.put_nowait(event)
        if self._session is not None:
            self._session.note(event)
        self._next_segment = max(self._next_segment, getattr(event, "segment_id", -1) + 1)
        if isinstance(event, Final):
            self._backlog.finish_until(event.end_s)
        elif isinstance(event, ErrorReported):
            self._retry_after_s = event.retry_after_s
        elif isinstance(event, SessionEnded):
            self._end(None)

    async def _reconnect(self, error: Exception, attempt: int) -> int:
        """Connect again and bring the new session to where the old one was."""
        while True:
            attempt = self._next_attempt(error, attempt)
            delay_s = self.retry.delay_s(attempt, self._retry_after_s)
            self._retry_after_s = None
            address = address_of(self.url)
            logger.warning("%s: %s, next try in %.1f s", address, reason_of(error), delay_s)
            self._events.put_nowait(
                Reconnecting(attempt=attempt, delay_s=delay_s, reason=reason_of(error))
            )
            await asyncio.sleep(delay_s)
            try:
                await self._resume(attempt)
                return attempt
            except SessionRefused as refused:
                error, self._retry_after_s = refused, refused.retry_after_s
            except _LOST as lost:
                self._socket, error = None, lost

    def _next_attempt(self, error: Exception, attempt: int) -> int:
        """Count up, or raise because another try would not help."""
        if isinstance(error, ConnectionClosed) and not worth_retrying(error):
            raise SessionFailed(
                f"the server ended the session: {reason_of(error)}", close_code=close_code(error)
            )
        if isinstance(error, SessionRefused) and not worth_retrying(error):
            raise error
        address = address_of(self.url)
        if not worth_retrying(error):
            raise ConnectError(f"cannot reach {address} again: {reason_of(error)}")
        if attempt >= self.retry.attempts:
            raise ConnectError(f"gave up on {address} after {attempt} tries: {reason_of(error)}")
        return attempt + 1

    async def _resume(self, attempts: int) -> None:
        """Go on with the session, or with a new one where it was lost."""
        session = self._session
        if session is not None and session.token:
            frame_bytes = self.audio.frame_bytes
            first_frame = (self._backlog.start - session.origin) // frame_bytes
            try:
                socket, resumed = await self._open(session.message(first_frame))
            except SessionRefused as refused:
                if refused.code != UNKNOWN_SESSION:
                    raise
                session.token = ""
            else:
                assert isinstance(resumed, SessionResumed)  # what a ``resume`` is answered with
                await self._go_on(socket, session, resumed, attempts)
                return
        await self._start_anew(attempts)

    async def _go_on(
        self,
        socket: ClientConnection,
        session: OpenSession,
        resumed: SessionResumed,
        attempts: int,
    ) -> None:
        """Send what the server has missed; what the client has missed is on its way."""
        async with self._sending:
            self._socket = socket
            position = session.origin + resumed.next_frame * self.audio.frame_bytes
            gone = self._backlog.skip_to(position)
            self._tell_reconnected(attempts, self.audio.seconds_of(position), resumed=True)
            for message in session.missed(resumed):
                await self._write(message)
            for at in range(0, gone, FRAME_BYTES):  # dropped meanwhile; silence keeps times right
                await self._write(bytes(min(FRAME_BYTES, gone - at)))
            await self._write_audio()
            if self._stopping:
                await self._write({"type": "stop"})

    async def _start_anew(self, attempts: int) -> None:
        """Give a new session the glossary edits, the kept audio and what is pending."""
        socket, started = await self._open(self._start)
        async with self._sending:
            self._socket = socket
            flushes_due = self._session.flushes - self._session.flushed if self._session else 0
            self._offset_s, self._first_segment = self._backlog.rewind(), self._next_segment
            self._begin(started)
            self._tell_reconnected(attempts, self._offset_s, resumed=False)
            # The new session began with the first glossary, so all edits are made again at once.
            add = [entry for entry in self._edits.values() if entry is not None]
            await self._write_edits(add, [t for t, entry in self._edits.items() if entry is None])
            await self._write_audio()
            for _ in range(flushes_due):
                await self._write_flush()
            if self._stopping:
                await self._write({"type": "stop"})

    def _tell_reconnected(self, attempts: int, offset_s: float, *, resumed: bool) -> None:
        dropped_s = self._backlog.take_dropped_s()
        if dropped_s:
            logger.warning("%.1f s of audio were lost while disconnected", dropped_s)
        self._events.put_nowait(
            Reconnected(attempts=attempts, offset_s=offset_s, dropped_s=dropped_s, resumed=resumed)
        )

    async def _write_edits(self, add: Sequence[GlossaryEntry], remove: Sequence[str]) -> None:
        assert self._session is not None  # a session begins before anything else is sent
        for message in edit_messages(add, remove):
            self._session.edits.append(message)
            await self._write(message)

    async def _write_flush(self) -> None:
        assert self._session is not None
        self._session.flushes += 1
        await self._write({"type": "flush"})

    async def _write_audio(self) -> None:
        """Send what the backlog holds; the caller holds the lock."""
        while self._socket is not None and (frame := self._backlog.next_frame()):
            await self._write(frame)

    async def _write(self, message: bytes | Mapping[str, Any]) -> None:
        """Send one message; a broken connection is left to the receiver, which sees it too."""
        if self._socket is not None:
            data = message if isinstance(message, bytes) else json.dumps(message)
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(data)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _end(self, failure: ClientError | None) -> None:
        if not self._done.is_set():
            self._failure = failure
            self._done.set()
            self._events.put_nowait(None)
