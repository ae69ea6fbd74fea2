"""Threads for everything that blocks, so that no model ever runs on the event loop.

Steps, voice detectors and glossaries have threads of their own. A detector decides when speech ends
and must not queue behind engine steps. It takes about 1 ms per 32 ms of audio without holding the
interpreter's lock, so threads really do run it beside the loop. A long glossary takes seconds to
open or to edit, during which captions go on. Uploads do all their work in places for steps that
no live session wants, and one place is kept free of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import NamedTuple, TypeVar

from streaming.backend import Backend

LISTENING_THREADS = 2
PREPARING_THREADS = 2

Result = TypeVar("Result")


class _Waiting(NamedTuple):
    """Somebody who waits for a place."""

    turn: asyncio.Future[None]
    urgent: Callable[[], bool]
    background: bool


class EngineRoom:
    """Where blocking work is done: bounded threads, finals before partials before uploads."""

    def __init__(self, engine: Backend, workers: int) -> None:
        self.engine = engine
        self._workers = self._free = workers
        self._kept_live = 1 if workers > 1 else 0  # places that background work never takes
        self._waiting: deque[_Waiting] = deque()
        # One thread more than steps, so that closing a session need not wait for a step to end.
        self._stepping = ThreadPoolExecutor(workers + 1, thread_name_prefix="engine")
        self._preparing = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="glossary")
        self._listening = ThreadPoolExecutor(LISTENING_THREADS, thread_name_prefix="listen")

    @property
    def waiting(self) -> int:
        """Sessions that wait for a place for their step."""
        return len(self._waiting)

    @property
    def stepping(self) -> int:
        """Places that are taken."""
        return self._workers - self._free

    async def call(self, work: Callable[[], Result]) -> Result:
        """Do blocking work of the engine in a thread."""
        return await _in_thread(self._stepping, work)

    async def prepare(self, work: Callable[[], Result]) -> Result:
        """Open a session or edit its glossary in a thread."""
        return await _in_thread(self._preparing, work)

    async def listen(self, work: Callable[[], Result]) -> Result:
        """Run a voice detector in a thread."""
        return await _in_thread(self._listening, work)

    async def background(self, work: Callable[[], Result]) -> Result:
        """Do blocking work that can wait, in a place for steps that no live session wants.

        Cancelled, it gives the place back only when the thread is done with the work.
        """
        async with self.slot(lambda: False, background=True):
            call = asyncio.ensure_future(self.call(work))
            try:
                return await asyncio.shield(call)
            finally:
                await asyncio.wait([call])

    @asynccontextmanager
    async def slot(
        self, urgent: Callable[[], bool], *, background: bool = False
    ) -> AsyncIterator[None]:
        """One of the places for a step; whoever is urgent when a place is given back goes first.

        Background work goes last, and never takes the last free place where there are several.
        """
        if self._free > self._kept(background):
            self._free -= 1
        else:
            await self._queue(_Waiting(asyncio.Future(), urgent, background))
        try:
            yield
        finally:
            self._release()

    async def _queue(self, place: _Waiting) -> None:
        self._waiting.append(place)
        try:
            await place.turn
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            else:  # its turn came in the same moment
                self._release()
            raise

    def _release(self) -> None:
        self._free += 1
        while (place := self._next()) is not None:
            self._free -= 1
            self._waiting.remove(place)
            place.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        """Who goes next, if anybody can."""
        able = [item for item in self._waiting if self._free > self._kept(item.background)]
        live = [item for item in able if not item.background]
        return next((item for item in live if item.urgent()), next(iter(live or able), None))

    def _kept(self, background: bool) -> int:
        return self._kept_live if background else 0

    def close(self) -> None:
        """Give the threads back; what they are at is finished first."""
        self._stepping.shutdown(wait=True)
        self._preparing.shutdown(wait=True)
        self._listening.shutdown(wait=True)


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Do work in a thread; what it logs is marked as the caller's."""
    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
