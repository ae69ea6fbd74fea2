"""What all connections of a server share: the engine, the glossaries, who is connected."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from a2p_engine.types import GlossaryInfo, SessionOptions, Term
from streaming import vad
from streaming.audio.codecs import decoder_for
from streaming.backend import Backend
from streaming.commands import GlossaryChoice, Offer, Resume, Start
from streaming.dialects.base import Dialect
from streaming.errors import ServerFull, ShuttingDown, UnknownResume
from streaming.events import Event, SessionResumed, SessionStarted
from streaming.glossaries.choice import Chosen, SessionGlossaries
from streaming.live_session import Connected, LiveSession
from streaming.operations import logs
from streaming.operations.failures import for_log
from streaming.operations.memory import give_back_regularly
from streaming.operations.metrics import Gauges, Metrics
from streaming.operations.readiness import WarmUp
from streaming.operations.session_meter import SessionMeter
from streaming.outbox import Outbox
from streaming.publishers.base import Publisher
from streaming.runner import SessionRunner
from streaming.scheduling.capacity import Bounds
from streaming.scheduling.engine_room import EngineRoom
from streaming.security.admission import Admission, Ticket
from streaming.security.auth import ANONYMOUS, Authenticator, Client, Principal
from streaming.security.keys import KeyFile
from streaming.segmenter import SegmenterConfig
from streaming.session import SessionConfig, SessionCore
from streaming.settings import ServerSettings
from streaming.uploads.captioning import Uploads

logger = logging.getLogger(__name__)

Terms = tuple[Term, ...]
INDEX_SUFFIX = ".safetensors"
AUTO_LANGUAGE = "auto"
SEGMENT_MARGIN_S = 1.0  # a cut comes up to a detector frame late


class Hub:
    """Admits connections, opens sessions, and sees them out when the server stops.

    Attributes:
        auth: tells who a client is.
        glossaries: by the name that clients ask for.
        leaving: set once no new clients are wanted.
        cordoned: set once no new sessions are taken.
        draining: set once the server is stopping.
        warm_up: has the engine load what sessions will need.
        uploads: captions recordings beside the sessions.
        metrics: what is counted and timed.
    """

    def __init__(
        self, settings: ServerSettings, engine: Backend, publishers: Sequence[Publisher] = ()
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.auth = Authenticator(KeyFile(settings.keys_file) if settings.keys_file else None)
        self.glossaries = SessionGlossaries(settings, engine)
        self.leaving = False
        self.cordoned = False
        self.draining = False
        bounds = Bounds(final_p95_s=settings.max_final_s)
        self._room = EngineRoom(engine, settings.workers, bounds)
        self._publishers = publishers
        self._admission = Admission(
            max_sessions=settings.max_sessions,
            max_session_s=settings.max_session_s,
            recheck=self.auth.recheck,
        )
        self._connected: set[Connected] = set()  # those that have a place
        self._standing: set[Connected] = set()  # those that may resume, and those that gave way
        self._sessions: dict[str, LiveSession] = {}  # those that can be resumed
        self._kept: dict[str, asyncio.Task[None]] = {}  # of them, those without a connection
        self._none_left = asyncio.Event()
        service = self.glossaries.service
        shared = {name: partial(self._shared, name) for name in service.names(ANONYMOUS)}
        self.uploads = Uploads(
            self._room, self.glossaries.choose, settings, self._session_config(Start())
        )
        self.warm_up = WarmUp(self._room, shared, wanted=settings.warm_up)
        self._background: list[asyncio.Task[None]] = []
        self.metrics = Metrics()
        self.metrics.describe(engine.speech_llm, service.files())
        self.metrics.watch(
            Gauges(
                max_sessions=lambda: settings.max_sessions,
                draining=lambda: self.leaving,
                load=lambda: self._room.capacity.load(time.monotonic()),
                steps_waiting=lambda: self._room.waiting,
                steps_running=lambda: self._room.stepping,
            )
        )

    def offer_to(self, principal: Principal) -> Offer:
        """What a client may ask for."""
        return Offer(
            languages=(AUTO_LANGUAGE, *self.engine.languages),
            glossaries=self.glossaries.service.names(principal),
            speech_llm=self.engine.speech_llm,
        )

    @property
    def sessions(self) -> int:
        """Places taken: by connections, and by sessions that wait for theirs to come back."""
        return len(self._connected) + len(self._kept)

    async def start(self) -> None:
        """Start the publishers, begin to warm up and to look after glossaries and memory."""
        for publisher in self._publishers:
            await publisher.start()
        work = (self.warm_up.run(), self.glossaries.service.follow(), give_back_regularly())
        self._background = [asyncio.create_task(each) for each in work]

    async def stop(self) -> None:
        """Stop the publishers and the threads."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for publisher in self._publishers:
            try:
                await publisher.stop()
            except Exception as error:
                logger.error("publisher %r did not stop", publisher, exc_info=for_log(error))
        await asyncio.to_thread(self._room.close)
        await asyncio.to_thread(self.glossaries.close)

    def admit(self, connection: Connected, *, may_resume: bool = False) -> None:
        """Take a connection in; ``release`` gives its place back.

        When all places are taken, one that may resume is let in to say whether it does: then it
        needs no further place.

        Raises:
            ShuttingDown: the server is stopping.
            ServerFull: there is no place.
        """
        if self.draining:
            raise ShuttingDown("the server is stopping")
        if len(self._connected) < self.settings.max_sessions:
            self._connected.add(connection)
        elif may_resume and len(self._standing) < self.settings.max_sessions:
            self._standing.add(connection)
        else:
            raise self._full()

    def release(self, connection: Connected) -> None:
        """Give a connection's place back; does nothing for one that was not admitted."""
        self._connected.discard(connection)
        self._standing.discard(connection)
        self._note_departure()

    async def drain(self) -> None:
        """Admit no one any more and see everyone out, within the time the settings allow."""
        self.leaving = self.draining = True
        self._none_left.clear()
        self.uploads.stop()
        for connection in (*self._connected, *self._standing):
            connection.shut_down()
        for waiting in tuple(self._kept.values()):
            waiting.cancel()
        if self._empty:
            return
        try:
            async with asyncio.timeout(self.settings.shutdown_timeout_s):
                await self._none_left.wait()
        except TimeoutError:
            told = {"event": "server.impatient", "sessions": self.sessions}
            logger.warning("%d sessions did not end in time", self.sessions, extra=told)

    def cordon(self) -> None:
        """Take no new sessions; those that are open go on, also over new connections."""
        self.leaving = self.cordoned = True

    async def open_session(
        self, start: Start, client: Client, owner: Connected, dialect: Dialect, outbox: Outbox
    ) -> LiveSession:
        """Open a session with the engine and tell that it has started.

        Raises:
            ShuttingDown: no new sessions are taken.
            ServerFull: there is no place.
            RateLimited: the client has had its share.
            A2PError: the engine refuses it.
        """
        if self.cordoned:
            raise ShuttingDown("the server takes no new sessions")
        if owner in self._standing:
            self._standing.discard(owner)
            self.admit(owner)
        self._require_capacity()
        ticket = self._admission.admit(*client)
        try:
            return await self._open(start, ticket, owner, dialect, outbox)
        except BaseException:
            ticket.close()
            raise

    async def _open(
        self, start: Start, ticket: Ticket, owner: Connected, dialect: Dialect, outbox: Outbox
    ) -> LiveSession:
        window_s = self.settings.resume_window_s
        token = secrets.token_urlsafe(16) if start.resumable and window_s else ""
        session = LiveSession(
            secrets.token_hex(8), token, dialect, outbox, ticket, start.options.stats_interval_ms
        )
        logs.mark(session=session.session_id)
        runner, started = await self._runner(start, session)
        session.begin(runner)
        session.attach(owner)
        if token:
            self._sessions[session.session_id] = session
        session.tell(replace(started, resume_token=token, resume_window_s=window_s))
        self._publish(session.session_id, started)
        logger.info("session opened", extra={"event": "session.opened"})
        return session

    async def _runner(
        self, start: Start, session: LiveSession
    ) -> tuple[SessionRunner, SessionStarted]:
        options = SessionOptions(
            language=start.language,
            task=start.task,
            target_language=start.options.target_language,
            source_text=start.options.source_text,
            top_k=start.options.top_k,
            threshold=start.options.threshold,
        )
        detector = await self._room.listen(partial(vad.create, start.options.vad))
        principal = session.ticket.principal
        chosen = await self._room.prepare(
            partial(self.glossaries.choose, start.glossary, principal)
        )
        handle, info = await self._room.prepare(partial(self._open_engine, options, chosen))
        started = SessionStarted(
            session_id=session.session_id,
            audio=asdict(start.audio),
            language=start.language,
            task=start.task,
            options=asdict(start.options),
            glossary_version=info.version,
            glossary_terms=info.terms,
            rejected=(*chosen.rejected, *info.rejected),
        )
        wanted = start.options.partials
        interval_s = start.options.partial_interval_ms / 1000 if wanted else math.inf
        meter = SessionMeter(self.metrics, session.dialect.name, interval_s)
        meter.told(started)
        runner = SessionRunner(
            self._room,
            handle,
            SessionCore(handle, self._session_config(start), detector),
            decoder_for(start.audio),
            emit=session.tell,
            publish=partial(self._publish, session.session_id),
            max_backlog_s=self.settings.max_backlog_s,
            meter=meter,
            save=self.glossaries.save(chosen, principal),
        )
        if chosen.snapshot is not None:
            session.unfollow = self.glossaries.service.subscribe(chosen.snapshot, runner.follow)
        return runner, started

    def _open_engine(self, options: SessionOptions, chosen: Chosen) -> tuple[str, GlossaryInfo]:
        handle, info = self.engine.open(options, chosen.terms, index=chosen.index)
        if chosen.added or chosen.removed:
            edited = self.engine.edit_glossary(handle, add=chosen.added, remove=chosen.removed)
            rejected = (*info.rejected, *edited.rejected)
            info = replace(edited, version=info.version, rejected=rejected)
        return handle, info

    # Sessions between two connections

    def find_session(self, resume: Resume, client: Client) -> LiveSession:
        """The session that a client wants to go on with.

        Raises:
            UnknownResume: the client has none of that name and token.
        """
        session = self._sessions.get(resume.session_id)
        if (
            session is None
            or session.ticket.principal.name != client.principal.name
            or not secrets.compare_digest(session.token.encode(), resume.token.encode())
        ):
            raise UnknownResume(
                "there is no such session to go on with; it may have ended: start a new one"
            )
        return session

    async def rejoin(
        self, session: LiveSession, resume: Resume, owner: Connected
    ) -> SessionResumed:
        """Give a session to the connection that came back for it; any other one gives way.

        Raises:
            UnknownResume: too much audio was lost.
        """
        logs.mark(session=session.session_id)
        self._seat(owner, instead_of=session.attach(owner))
        if (waiting := self._kept.pop(session.session_id, None)) is not None:
            waiting.cancel()
        try:
            next_frame, skipped = await session.runner.rejoin(
                resume.first_frame, self.settings.max_backlog_s
            )
        except BaseException:
            self.keep(session, owner)
            raise
        return SessionResumed(
            session_id=session.session_id,
            next_frame=next_frame,
            skipped_frames=skipped,
            edits=session.runner.edits,
            flushes=session.runner.flushes,
        )

    def _seat(self, owner: Connected, instead_of: Connected | None) -> None:
        """Give a connection a place: that of the one before, which may take a while to go."""
        if instead_of in self._connected:
            self._connected.discard(instead_of)
            self._standing.add(instead_of)
        self._standing.discard(owner)
        self._connected.add(owner)

    def keep(self, session: LiveSession, owner: Connected) -> None:
        """Keep a session whose connection broke, for a while."""
        if session.detach(owner):
            waiting = asyncio.create_task(self._end_unless_resumed(session))
            self._kept[session.session_id] = waiting

    async def _end_unless_resumed(self, session: LiveSession) -> None:
        try:
            await asyncio.sleep(self.settings.resume_window_s)
        except asyncio.CancelledError:
            if self._kept.get(session.session_id) is not asyncio.current_task():
                return  # resumed; otherwise the server stops
        await self.end_session(session)
        self._kept.pop(session.session_id, None)
        self._note_departure()

    async def end_session(self, session: LiveSession) -> None:
        """End a session that no connection will come back for."""
        self._sessions.pop(session.session_id, None)
        await session.end(self.settings.shutdown_timeout_s if self._publishers else 0)
        logger.info("session closed", extra={"event": "session.closed"})

    @property
    def _empty(self) -> bool:
        return not (self.sessions or self._standing)

    def _note_departure(self) -> None:
        if self._empty:
            self._none_left.set()

    def _require_capacity(self) -> None:
        if self.settings.admission == "fixed":
            return
        refusal = self._room.capacity.admit(self.sessions - 1, time.monotonic())
        if refusal is not None:
            raise ServerFull(refusal.reason, retry_after_s=refusal.retry_after_s)

    @property
    def no_room(self) -> str | None:
        """Why one more session would be refused; None when it would be taken."""
        if self.sessions >= self.settings.max_sessions:
            return f"all {self.settings.max_sessions} sessions are taken"
        if self.settings.admission == "fixed":
            return None
        refusal = self._room.capacity.refusal(self.sessions, time.monotonic())
        return refusal.reason if refusal else None

    def _full(self) -> ServerFull:
        return ServerFull(f"all {self.settings.max_sessions} sessions are taken; try again")

    def _session_config(self, start: Start) -> SessionConfig:
        longest_s = min(SegmenterConfig().max_s, self.engine.max_segment_s - SEGMENT_MARGIN_S)
        endpoint_s = start.options.endpoint_ms / 1000
        return SessionConfig(
            segmenter=SegmenterConfig(max_s=longest_s, hangover_s=endpoint_s),
            partials=start.options.partials,
            partial_interval_s=start.options.partial_interval_ms / 1000,
            words=start.options.words,
        )

    def _shared(self, name: str) -> tuple[Terms, Path | None]:
        chosen = self.glossaries.choose(GlossaryChoice(name=name), ANONYMOUS)
        return chosen.all_terms, chosen.index

    def _publish(self, session_id: str, event: Event) -> None:
        for publisher in self._publishers:
            try:
                publisher.publish(session_id, event)
            except Exception as error:
                logger.error("publisher %r failed", publisher, exc_info=for_log(error))
