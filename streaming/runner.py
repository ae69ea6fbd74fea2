"""The asyncio shell around ``SessionCore``: what runs where, and in which order.

Cores live on the event loop alone, so they need no locks; only the models run in threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from a2p_engine import glossary
from a2p_engine.errors import A2PError, AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, GlossaryInfo, Samples, Term
from streaming.audio.codecs import Decoder
from streaming.audio.pcm import AudioDecoder
from streaming.commands import EditGlossary
from streaming.errors import BadCommand, ClientGone, TruncatedAudio, UnknownResume, error_event
from streaming.events import Event, Final, GlossaryUpdated, SessionEnded, Stats
from streaming.glossaries.records import Change
from streaming.operations.failures import for_log
from streaming.operations.session_meter import SessionMeter
from streaming.scheduling.engine_room import EngineRoom
from streaming.scheduling.schedule import AudioClock, Due, Kind
from streaming.segmenter import samples
from streaming.session import SessionCore

logger = logging.getLogger(__name__)

AUDIO_SLICE_SAMPLES = samples(0.5)  # what the detector hears in one go, so that others get a turn
MAX_PENDING_EDITS = 8  # of a client, which may be long; then nothing more is read of it
MUTED_BYTES = 32_000  # of silence that is heard at once; a second of the usual format
NO_SOUND = np.zeros(1, np.float32)

Result = TypeVar("Result")
Rejected = Sequence[tuple[str, str]]
Edited = tuple[GlossaryInfo, Rejected]
Save = Callable[[Sequence[Term], Sequence[str]], object]  # into the stored glossary; blocks


class SessionRunner:
    """Runs one session: takes what the client sends, works the core's requests off, tells events.

    ``emit`` tells the client, ``publish`` everyone else, who gets a last event in any case.

    ``work`` is the coroutine that calls the engine; ``receive_audio`` waits while too much audio is
    unheard, which in turn makes the transport stop reading.

    Attributes:
        edits: glossary edits taken.
        flushes: flushes taken.
    """

    def __init__(
        self,
        room: EngineRoom,
        handle: str,
        core: SessionCore,
        decoder: Decoder,
        *,
        emit: Callable[[Event], None],
        publish: Callable[[Event], None],
        max_backlog_s: float,
        meter: SessionMeter,
        save: Save | None = None,
    ) -> None:
        self._room = room
        self._handle = handle
        self._core = core
        self._decoder = decoder
        self._emit = emit
        self._publish = publish
        self._max_backlog = samples(max_backlog_s)
        self._meter = meter
        self._save = save
        meter.watch(lambda: core.lag_samples)
        self._clock = AudioClock()
        self._awaited: Kind | None = None  # what waits for a place
        self._editing: asyncio.Task[None] | None = None  # the latest edit
        self._pending_edits: set[asyncio.Task[None]] = set()  # the client's own
        self._closing = False
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._receiving = asyncio.Lock()
        self._hearing = asyncio.Lock()
        self._engine_call: asyncio.Future[Any] | None = None
        self._taking: asyncio.Task[float] | None = None
        self._ending: A2PError | None = None
        self.edits = 0
        self.flushes = 0

    async def receive_audio(self, data: bytes) -> float:
        """Take bytes in the format of the session; returns their length in s when more may come.

        Raises:
            AudioError: they cannot be decoded, nor will what follows.
        """
        if self._muted(data):
            return self._pass_over(data)
        # Shielded: audio that counts as taken is heard, whatever becomes of its connection.
        self._taking = asyncio.create_task(self._take(data))
        return await asyncio.shield(self._taking)

    def _muted(self, data: bytes) -> bool:
        """Whether these are zeros, as a muted microphone sends them, and nothing is under way.

        They are most of what many clients send, and a task for each would cost more than they do.
        """
        return (
            self._core.idle
            and (self._taking is None or self._taking.done())
            and not (self._core.finishing or self._decoder.blocking)
            and not (self._receiving.locked() or self._hearing.locked())
            and len(data) <= MUTED_BYTES
            and data == bytes(len(data))
            and self._core.listener.trivial(NO_SOUND)
        )

    def _pass_over(self, data: bytes) -> float:
        audio = self._decoder.decode(data)
        self._arrived(audio)
        self._tell(self._core.receive_audio(audio))
        return len(audio) / SAMPLE_RATE_HZ

    async def _take(self, data: bytes) -> float:
        async with self._receiving:
            if self._core.finishing:
                return 0.0  # it was under way; a decoder takes nothing after its end
            audio = await self._decode(data)
            await self._receive(audio)
            return len(audio) / SAMPLE_RATE_HZ

    def _arrived(self, audio: Samples) -> None:
        self._meter.audio_arrived(len(audio))
        self._clock.advance(len(audio), time.monotonic())

    async def _receive(self, audio: Samples) -> None:
        self._arrived(audio)
        for at in range(0, len(audio), AUDIO_SLICE_SAMPLES):
            piece = audio[at : at + AUDIO_SLICE_SAMPLES]
            await self._hear(piece)
            while self._core.lag_samples > self._max_backlog and self._core.working:
                if self._ending is not None:
                    break  # what has arrived is all there will be
                self._progress.clear()
                await self._progress.wait()

    async def edit_glossary(self, edit: EditGlossary) -> None:
        """Take a glossary edit; returns when there is room for another.

        It is made in turn, beside the steps, which do not wait for it.
        """
        self.edits += 1
        task = self._edit_in_turn(partial(self._apply_edit, edit))
        self._pending_edits.add(task)
        task.add_done_callback(self._pending_edits.discard)
        while len(self._pending_edits) >= MAX_PENDING_EDITS:
            await asyncio.wait(self._pending_edits, return_when=asyncio.FIRST_COMPLETED)

    def follow(self, change: Change) -> None:
        """Take over a change of the stored glossary that the session listens for."""
        self._edit_in_turn(partial(self._apply, change.add, change.removed, ()))

    def _edit_in_turn(self, edit: Callable[[], Edited]) -> asyncio.Task[None]:
        self._editing = asyncio.create_task(self._edit(edit, self._editing))
        return self._editing

    def flush(self) -> None:
        """End the open segment now."""
        self.flushes += 1
        self._tell(self._core.flush())

    async def discard(self, *, ended: bool) -> None:
        """Forget audio that has no final yet; see ``Discard``."""
        async with self._hearing:
            self._tell(self._core.discard(ended=ended))

    async def rejoin(self, first_frame: int, limit_s: float) -> tuple[int, int]:
        """Make ready for another connection that can send audio from ``first_frame`` on.

        Returns:
            The frame to go on with, and how many were lost; they count as silence.

        Raises:
            UnknownResume: more than ``limit_s`` of audio were lost.
        """
        assert isinstance(self._decoder, AudioDecoder)  # dialects let sessions of others not resume
        async with self._receiving:
            self._decoder.realign()
            taken = self._decoder.frames
        lost = max(0, first_frame - taken)
        if lost > limit_s * self._decoder.sample_rate_hz:
            raise UnknownResume(f"{lost} frames of audio were lost; accepted: {limit_s:g} s")
        if lost and not self._core.finishing:
            await self.receive_audio(self._decoder.silence(lost))
        return taken + lost, lost

    async def stop(self) -> None:
        """End of audio, after the edits that came before it; harmless when it has ended already."""
        await self._edits_made()
        async with self._hearing:
            if self._core.finishing:
                return
            try:
                self._decoder.check_complete()
            except (TruncatedAudio, AudioError) as error:
                self._tell([error_event(error, fatal=False)])
            rest = self._decoder.finish()
            self._meter.audio_arrived(len(rest))
            self._tell(self._core.receive_audio(rest) + self._core.finish())

    async def end_early(self, why: A2PError) -> None:
        """End of audio, after the message that is being heard; ``work`` ends with the reason."""
        if self._ending is None and not self._core.finishing:
            self._ending = why
        self._progress.set()
        async with self._receiving:
            await self.stop()

    async def work(self) -> None:
        """Work requests off until the session has ended.

        Raises:
            A2PError: what it was given as the reason for an early end.
        """
        while True:
            self._wake.clear()
            while self._core.ready:
                await self._step()
            if self._core.ended:
                break
            await self._wake.wait()
        if self._ending is not None:
            raise self._ending

    def stats(self, sessions: int) -> Stats:
        """How the session is doing; ``sessions`` is the number open on the server."""
        return Stats(
            audio_samples=self._core.audio_samples,
            lag_samples=self._core.lag_samples,
            timings_ms=self._core.timings_ms,
            sessions=sessions,
        )

    async def close(self) -> None:
        """Free the engine's state, after the calls under way; edits not yet begun are dropped."""
        self._closing = True
        self._meter.close()
        if not self._core.ended:
            self._publish(error_event(ClientGone("the session was broken off"), fatal=True))
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        if self._engine_call is not None:
            await asyncio.gather(self._engine_call, return_exceptions=True)
        await self._edits_made()
        try:
            await self._room.call(partial(self._room.engine.close, self._handle))
        except Exception as error:
            text = "the engine could not close session %s"
            logger.error(text, self._handle, exc_info=for_log(error))

    async def _decode(self, data: bytes) -> Samples:
        async with self._hearing:
            if not self._decoder.blocking:
                return self._decoder.decode(data)
            return await self._room.listen(partial(self._decoder.decode, data))

    async def _hear(self, piece: Samples) -> None:
        async with self._hearing:
            listener = self._core.listener
            hear = partial(listener.hear, piece)
            heard = hear() if listener.trivial(piece) else await self._room.listen(hear)
            self._tell(self._core.receive_heard(piece, heard))

    async def _step(self) -> None:
        self._meter.step_due()
        self._awaited = self._due().kind
        async with self._room.slot(self._due):
            self._awaited = None
            kind = self._due().kind
            # Only now, so that the request has all audio that came while waiting for the slot.
            request = self._core.next_request()
            if request is None:
                return
            self._meter.step_began(kind, request)
            try:
                result = await self._engine(partial(self._room.engine.step, request))
            except Exception as error:
                text = "step failed on segment %d"
                told = {"event": "step.failed"}
                logger.error(text, request.segment_id, exc_info=for_log(error), extra=told)
                self._meter.step_failed()
                events = self._core.step_failed(error)
            else:
                events = self._core.receive_result(result)
                self._meter.step_done(result.timings_ms)
        self._tell(events)
        self._progress.set()

    def _due(self) -> Due:
        wanted = self._core.wanted
        if wanted is None:  # a step that is not needed any more costs nothing
            return Due(Kind.PARTIAL, -math.inf)
        return Due(wanted.kind, self._clock.time_s(wanted.by_sample))

    def _finished(self, final: Final) -> None:
        now_s = time.monotonic()
        speech_s = (final.speech_end_sample - final.start_sample) / SAMPLE_RATE_HZ
        late_s = now_s - self._clock.time_s(final.speech_end_sample)
        self._room.capacity.finished(speech_s, late_s, now_s)

    def _reconsider(self) -> None:
        """A partial that waits may have become a final, which may run where a partial may not."""
        if self._awaited is not None and (kind := self._due().kind) is not self._awaited:
            self._awaited = kind
            self._room.deal()

    async def _edit(self, edit: Callable[[], Edited], earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await earlier
        if self._closing:
            return
        try:
            info, rejected = await self._room.prepare(edit)
        except Exception as error:
            logger.warning("a glossary edit failed", exc_info=for_log(error))
            self._tell([error_event(error, fatal=False)])
            return
        self._core.glossary_changed()
        updated = GlossaryUpdated(
            version=info.version,
            terms=info.terms,
            added=info.added,
            removed=info.removed,
            audio_time_sample=info.from_sample,
            rejected=(*rejected, *info.rejected),
        )
        self._tell([updated])

    async def _edits_made(self) -> None:
        if self._editing is not None:
            await asyncio.shield(self._editing)

    def _apply_edit(self, edit: EditGlossary) -> Edited:
        parsed = glossary.parse_entries(edit.add)
        if edit.save:
            if self._save is None:
                raise BadCommand(
                    "save is true; accepted only in sessions that were started with a stored "
                    "glossary which this client may change"
                )
            self._save(parsed.terms, edit.remove)
        return self._apply(parsed.terms, edit.remove, parsed.rejected)

    def _apply(self, add: Sequence[Term], remove: Sequence[str], rejected: Rejected) -> Edited:
        info = self._room.engine.edit_glossary(self._handle, add=add, remove=remove)
        return info, rejected

    async def _engine(self, work: Callable[[], Result]) -> Result:
        """Call the engine; ``close`` can wait for the call even when the caller is cancelled."""
        call = asyncio.ensure_future(self._room.call(work))
        self._engine_call = call
        return await asyncio.shield(call)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._meter.told(event)
            if isinstance(event, Final):
                self._finished(event)
            self._publish(event)
            if not (self._ending and isinstance(event, SessionEnded)):
                self._emit(event)
        if self._core.ready or self._core.ended:
            self._wake.set()
        self._reconsider()
