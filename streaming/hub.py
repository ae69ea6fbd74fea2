"""What all connections of a server share: the engine, the glossaries, who is connected."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from a2p_engine import glossary
from a2p_engine.types import SessionOptions, Term
from streaming import vad
from streaming.audio import AudioDecoder
from streaming.backend import Backend
from streaming.engine_room import EngineRoom
from streaming.errors import ServerFull, ShuttingDown
from streaming.events import Event, SessionStarted
from streaming.protocol import GlossaryChoice, Offer, Start
from streaming.publishers.base import Publisher
from streaming.runner import SessionRunner
from streaming.segmenter import SegmenterConfig
from streaming.session import SessionConfig, SessionCore
from streaming.settings import ServerSettings

logger = logging.getLogger(__name__)

Terms = tuple[Term, ...]
INDEX_SUFFIX = ".safetensors"
AUTO_LANGUAGE = "auto"
SEGMENT_MARGIN_S = 1.0  # a cut comes up to a detector frame late


class Connected(Protocol):
    """A connection, as far as the hub is concerned."""

    def shut_down(self) -> None:
        """Deliver last finals and close, soon."""
        ...


class Indexed(NamedTuple):
    """A glossary that the engine maps from a file and that is never seen here."""

    path: Path
    size: int

    def __len__(self) -> int:
        return self.size


def load_glossaries(paths: Mapping[str, Path], engine: Backend) -> dict[str, Terms | Indexed]:
    """Read the server's glossaries; what they hold that cannot be used is logged.

    Raises:
        GlossaryError: a file cannot be read.
    """
    loaded: dict[str, Terms | Indexed] = {}
    for name, path in paths.items():
        if path.suffix == INDEX_SUFFIX:
            loaded[name] = Indexed(path, engine.load_index(path))
            continue
        parsed = glossary.load(path)
        loaded[name] = tuple(parsed.terms)
        for note in parsed.notes:
            logger.warning("glossary %s: %s", name, note)
        logger.info(
            "glossary %s: %d terms, %d rejected", name, len(parsed.terms), len(parsed.rejected)
        )
    return loaded


class Hub:
    """Admits connections, opens sessions, and sees them out when the server stops.

    Attributes:
        glossaries: by the name that clients ask for.
        draining: set once the server is stopping.
    """

    def __init__(
        self, settings: ServerSettings, engine: Backend, publishers: Sequence[Publisher] = ()
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.glossaries = load_glossaries(settings.glossaries, engine)
        self.draining = False
        self._room = EngineRoom(engine, settings.workers)
        self._publishers = publishers
        self._connected: set[Connected] = set()
        self._none_connected = asyncio.Event()

    @property
    def offer(self) -> Offer:
        """What a start may ask for."""
        languages = (AUTO_LANGUAGE, *self.engine.languages)
        return Offer(languages=languages, glossaries=tuple(self.glossaries))

    @property
    def sessions(self) -> int:
        """Connections at present."""
        return len(self._connected)

    @property
    def publishes(self) -> bool:
        """Whether others than the clients follow the sessions."""
        return bool(self._publishers)

    async def start(self) -> None:
        """Start the publishers."""
        for publisher in self._publishers:
            await publisher.start()

    async def stop(self) -> None:
        """Stop the publishers and the threads."""
        for publisher in self._publishers:
            try:
                await publisher.stop()
            except Exception:
                logger.exception("publisher %r did not stop", publisher)
        await asyncio.to_thread(self._room.close)

    def admit(self, connection: Connected) -> None:
        """Take a connection in; ``release`` gives its place back.

        Raises:
            ShuttingDown: the server is stopping.
            ServerFull: there is no place.
        """
        if self.draining:
            raise ShuttingDown("the server is stopping")
        if self.sessions >= self.settings.max_sessions:
            raise ServerFull(f"all {self.settings.max_sessions} sessions are taken; try again")
        self._connected.add(connection)

    def release(self, connection: Connected) -> None:
        """Give a connection's place back; does nothing for one that was not admitted."""
        self._connected.discard(connection)
        if not self._connected:
            self._none_connected.set()

    async def drain(self) -> None:
        """Admit no one any more and see everyone out, within the time the settings allow."""
        self.draining = True
        self._none_connected.clear()
        for connection in tuple(self._connected):
            connection.shut_down()
        if not self._connected:
            return
        try:
            async with asyncio.timeout(self.settings.shutdown_timeout_s):
                await self._none_connected.wait()
        except TimeoutError:
            logger.warning("%d sessions did not end in time", self.sessions)

    async def open_session(self, start: Start, emit: Callable[[Event], None]) -> SessionRunner:
        """Open a session with the engine and tell that it has started.

        Raises:
            A2PError: the engine refuses it.
        """
        options = SessionOptions(
            language=start.language,
            task=start.task,
            top_k=start.options.top_k,
            threshold=start.options.threshold,
        )
        detector = await self._room.listen(partial(vad.create, start.options.vad))
        terms, index, rejected = await self._room.prepare(partial(self._terms, start.glossary))
        handle, info = await self._room.prepare(
            partial(self.engine.open, options, terms, index=index)
        )
        session_id = secrets.token_hex(8)
        started = SessionStarted(
            session_id=session_id,
            audio=asdict(start.audio),
            language=start.language,
            task=start.task,
            options=asdict(start.options),
            glossary_version=info.version,
            glossary_terms=info.terms,
            rejected=(*rejected, *info.rejected),
        )
        emit(started)
        self._publish(session_id, started)
        return SessionRunner(
            self._room,
            handle,
            SessionCore(handle, self._session_config(start), detector),
            AudioDecoder(start.audio),
            emit=emit,
            publish=partial(self._publish, session_id),
            max_backlog_s=self.settings.max_backlog_s,
        )

    def _session_config(self, start: Start) -> SessionConfig:
        longest_s = min(SegmenterConfig().max_s, self.engine.max_segment_s - SEGMENT_MARGIN_S)
        return SessionConfig(
            segmenter=SegmenterConfig(max_s=longest_s),
            partials=start.options.partials,
            partial_interval_s=start.options.partial_interval_ms / 1000,
            words=start.options.words,
        )

    def _terms(self, choice: GlossaryChoice) -> tuple[Terms, Path | None, list[tuple[str, str]]]:
        """Terms, index file and rejected entries of a choice.

        An unextended glossary stays one object, so that the engine recognises what sessions share.
        """
        name = self.settings.default_glossary if choice.default else choice.name
        named = self.glossaries[name] if name is not None else ()
        parsed = glossary.parse_entries(choice.entries)
        if isinstance(named, Indexed):
            return tuple(parsed.terms), named.path, parsed.rejected
        known = {term.text for term in named} if parsed.terms else set()
        fresh = tuple(term for term in parsed.terms if term.text not in known)
        return (*named, *fresh) if fresh else named, None, parsed.rejected

    def _publish(self, session_id: str, event: Event) -> None:
        for publisher in self._publishers:
            try:
                publisher.publish(session_id, event)
            except Exception:
                logger.exception("publisher %r failed", publisher)
