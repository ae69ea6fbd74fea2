"""Threads for everything that blocks, so that no model ever runs on the event loop.

Steps, voice detectors and glossaries have threads of their own. A detector decides when speech ends
and must not queue behind engine steps. It takes about 1 ms per 32 ms of audio without holding the
interpreter's lock, so threads really do run it beside the loop. A long glossary takes seconds to
open or to edit, during which captions go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TypeVar

from streaming.backend import Backend

LISTENING_THREADS = 2
PREPARING_THREADS = 2

Result = TypeVar("Result")


class EngineRoom:
    """Where blocking work is done: bounded threads, and finals before partials."""

    def __init__(self, engine: Backend, workers: int) -> None:
        self.engine = engine
        self._workers = self._free = workers
        self._waiting: deque[tuple[asyncio.Future[None], Callable[[], bool]]] = deque()
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

    @asynccontextmanager
    async def slot(self, urgent: Callable[[], bool]) -> AsyncIterator[None]:
        """One of the places for a step; whoever is urgent when a place is given back goes first."""
        if self._free:
            self._free -= 1
        else:
            await self._queue(urgent)
        try:
            yield
        finally:
            self._release()

    async def _queue(self, urgent: Callable[[], bool]) -> None:
        turn = asyncio.get_running_loop().create_future()
        place = (turn, urgent)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            else:  # its turn came in the same moment
                self._release()
            raise

    def _release(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        place = next((item for item in self._waiting if item[1]()), self._waiting[0])
        self._waiting.remove(place)
        place[0].set_result(None)

    def close(self) -> None:
        """Give the threads back; what they are at is finished first."""
        self._stepping.shutdown(wait=True)
        self._preparing.shutdown(wait=True)
        self._listening.shutdown(wait=True)


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Do work in a thread; what it logs is marked as the caller's."""
    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
