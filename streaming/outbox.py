"""The bounded queue between a session and the socket of a client that may read slowly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from streaming.errors import SlowReader
from streaming.events import Event, Final, Partial, Stats


class Outbox:
    """Events, and messages that are worded already, on their way to one client.

    A partial replaces an unsent partial of its segment and yields to the segment's final, and of
    statistics only the latest are kept; so a slow reader misses these first. Everything else is
    kept, up to ``max_events``.
    """

    def __init__(
        self, max_events: int, dropped: Callable[[str], None] = lambda reason: None
    ) -> None:
        """Begin empty; ``dropped`` is told of each event that will not be sent, and why."""
        self._max_events = max_events
        self._dropped = dropped
        self._events: deque[Event | str] = deque()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._overflow = asyncio.Event()

    def put(self, event: Event | str) -> None:
        """Add one; past the mark it is dropped, and ``overflow`` tells."""
        stale = next((old for old in self._events if _supersedes(event, old)), None)
        if stale is not None:
            self._events.remove(stale)
            self._dropped("superseded")
        if len(self._events) >= self._max_events:
            self._overflow.set()
            self._dropped("overflow")
            return
        self._events.append(event)
        self._filled.set()
        self._drained.clear()

    def __len__(self) -> int:
        return len(self._events)

    async def get(self) -> Event | str:
        """The next one; asking for one tells that the one before was sent."""
        while not self._events:
            self._drained.set()
            self._filled.clear()
            await self._filled.wait()
        return self._events.popleft()

    async def overflow(self) -> NoReturn:
        """Wait until too much has piled up.

        Raises:
            SlowReader: it has.
        """
        await self._overflow.wait()
        raise SlowReader(f"{self._max_events} events are unread")

    async def drained(self) -> None:
        """Wait until everything put in has been sent."""
        await self._drained.wait()


def _supersedes(new: Event | str, old: Event | str) -> bool:
    if isinstance(old, Partial) and isinstance(new, Partial | Final):
        return old.segment_id == new.segment_id
    return isinstance(old, Stats) and isinstance(new, Stats)
