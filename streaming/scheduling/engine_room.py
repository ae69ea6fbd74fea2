"""Threads for everything that blocks, so that no model ever runs on the event loop.

Steps, voice detectors and glossaries have threads of their own. A detector decides when speech ends
and must not queue behind engine steps. A long glossary takes seconds to open or to edit, during
which captions go on. Who gets the next place for a step is decided in ``schedule``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TypeVar

from streaming.backend import Backend
from streaming.scheduling.capacity import Bounds, Capacity
from streaming.scheduling.schedule import UPLOAD_PATIENCE_S, Ask, Due, Kind, Schedule

LISTENING_THREADS = 2
PREPARING_THREADS = 2

Result = TypeVar("Result")


class EngineRoom:
    """Where blocking work is done: bounded threads, and places for steps given away by schedule.

    Attributes:
        capacity: learns what steps cost.
    """

    def __init__(self, engine: Backend, workers: int, bounds: Bounds | None = None) -> None:
        self.engine = engine
        self.capacity = Capacity(workers, bounds, time.monotonic())
        self._schedule = Schedule(workers)
        self._turns: dict[Ask, asyncio.Future[None]] = {}
        # One thread more than steps, so that closing a session need not wait for a step to end.
        self._stepping = ThreadPoolExecutor(workers + 1, thread_name_prefix="engine")
        self._preparing = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="glossary")
        self._listening = ThreadPoolExecutor(LISTENING_THREADS, thread_name_prefix="listen")

    @property
    def waiting(self) -> int:
        """Sessions that wait for a place for their step."""
        return self._schedule.waiting

    @property
    def stepping(self) -> int:
        """Places that are taken."""
        return self._schedule.running

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
        """Do blocking work of an upload, in a place for steps that no live session wants.

        Cancelled, it gives the place back only when the thread is done with the work.
        """
        due = Due(Kind.UPLOAD, time.monotonic() + UPLOAD_PATIENCE_S)
        async with self.slot(lambda: due):
            call = asyncio.ensure_future(self.call(work))
            try:
                return await asyncio.shield(call)
            finally:
                await asyncio.wait([call])

    @asynccontextmanager
    async def slot(self, due: Callable[[], Due]) -> AsyncIterator[None]:
        """One of the places for a step; ``due`` says what it is for, as long as it waits."""
        ask = self._schedule.ask(due)
        turn = self._turns[ask] = asyncio.get_running_loop().create_future()
        try:
            self.deal()
            await turn
            began_s = time.monotonic()
            yield
            assert ask.kind is not None  # it has run
            ended_s = time.monotonic()
            self.capacity.worked(ask.kind, ended_s - began_s, ended_s)
        finally:
            del self._turns[ask]
            self._schedule.leave(ask)
            self.deal()

    def deal(self) -> None:
        """Give free places away; to be called when what somebody waits for has become another."""
        while (ask := self._schedule.next(time.monotonic())) is not None:
            turn = self._turns[ask]
            if not turn.done():  # it may have been cancelled just now, and gives its place back
                turn.set_result(None)

    def close(self) -> None:
        """Give the threads back; what they are at is finished first."""
        self._stepping.shutdown(wait=True)
        self._preparing.shutdown(wait=True)
        self._listening.shutdown(wait=True)


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    """Do work in a thread; what it logs is marked as the caller's."""
    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
