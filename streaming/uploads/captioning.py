"""Recordings that were uploaded, captioned beside live sessions without getting in their way.

All the work on them is done in pieces, each in a place for steps that no live session wants. So
many uploads are taken in at a time, which bounds what they hold in memory. What a key allows holds
for its uploads as for its sessions, each counted for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from a2p_engine.types import Samples, SessionOptions
from streaming import offline
from streaming.audio import media
from streaming.commands import GlossaryChoice
from streaming.errors import ServerFull, ShuttingDown
from streaming.events import Event, Final, seconds
from streaming.glossaries.choice import Chosen
from streaming.offline import OfflineConfig
from streaming.scheduling.engine_room import EngineRoom
from streaming.security.admission import Admission, Ticket
from streaming.security.auth import Client, Principal
from streaming.session import SessionConfig
from streaming.settings import ServerSettings
from streaming.vad import DEFAULT_DETECTOR

Rejections = list[tuple[str, str]]
# What a glossary means for a client; may block.
Choose = Callable[[GlossaryChoice, Principal], Chosen]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What was uploaded and what is wanted of it.

    Attributes:
        data: the file.
        options: what is asked of the engine.
        glossary: the terms to listen for.
        vad: name of the voice detector.
    """

    data: bytes = field(repr=False)
    options: SessionOptions
    glossary: GlossaryChoice = field(default_factory=GlossaryChoice)
    vad: str = DEFAULT_DETECTOR


@dataclass(kw_only=True, slots=True)
class Progress:
    """What has become of a recording so far.

    Attributes:
        audio_samples: decoded so far.
        finals: captions so far.
        rejected: glossary entries that were not taken, and why.
    """

    audio_samples: int = 0
    finals: list[Final] = field(default_factory=list)
    rejected: Rejections = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return seconds(self.audio_samples)


class Uploads:
    """Takes recordings in, so many at a time, and captions them."""

    def __init__(
        self,
        room: EngineRoom,
        choose: Choose,
        settings: ServerSettings,
        session: SessionConfig,
    ) -> None:
        """Take none in yet; ``session`` says how to segment them."""
        self._room = room
        self._choose = choose
        self._settings = settings
        self._session = session
        self._stopping = False
        self._admission = Admission(
            max_sessions=settings.max_uploads, max_session_s=settings.max_session_s
        )

    @property
    def open(self) -> int:
        """Recordings taken in at present."""
        return self._admission.open

    @contextmanager
    def place(self, client: Client) -> Iterator[Ticket]:
        """The right to one upload, from before its first byte is read.

        Raises:
            ShuttingDown: the server is stopping.
            ServerFull: all places are taken.
            RateLimited: the client's own are, or it comes too often, or has had its audio.
        """
        self._check()
        if self.open >= self._settings.max_uploads:
            raise ServerFull(f"{self.open} uploads are being worked on; try again")
        with self._admission.admit(*client) as ticket:
            yield ticket

    def stop(self) -> None:
        """Take no more uploads, and break off open ones at their next piece of work."""
        self._stopping = True

    async def caption(
        self, recording: Recording, ticket: Ticket, progress: Progress
    ) -> AsyncGenerator[Final, None]:
        """Finals as they come; they and what else is known are noted in ``progress``.

        Raises:
            AudioError: the file cannot be decoded, or is too long.
            GlossaryError: the glossary cannot be used.
            RateLimited: the client has had its audio for now.
            ShuttingDown: the server is stopping.
            A2PError: the engine refuses the session or fails on a segment.
        """
        work = await self._room.background(
            partial(self._begin, recording, ticket.principal, progress)
        )
        counted = 0
        try:
            while (told := await self._room.background(partial(next, work, None))) is not None:
                ticket.hear(seconds(progress.audio_samples - counted))
                counted = progress.audio_samples
                for final in told:
                    if isinstance(final, Final) and final.text:
                        progress.finals.append(final)
                        yield final
                self._check()
        finally:
            # Nobody who is cancelled may leave a session behind at the engine.
            await asyncio.shield(self._room.call(work.close))

    def _begin(
        self, recording: Recording, principal: Principal, progress: Progress
    ) -> Generator[list[Event], None, None]:
        chosen = self._choose(recording.glossary, principal)
        progress.rejected = list(chosen.rejected)
        config = OfflineConfig(options=recording.options, session=self._session, vad=recording.vad)
        blocks = self._blocks(recording.data, progress)
        return offline.pieces(
            self._room.engine, blocks, config, chosen.all_terms, index=chosen.index
        )

    def _blocks(self, data: bytes, progress: Progress) -> Iterator[Samples]:
        for block in media.decode(data, self._settings.max_upload_s):
            progress.audio_samples += len(block)
            yield block

    def _check(self) -> None:
        if self._stopping:
            raise ShuttingDown("the server is stopping; send the recording again")
