"""What the server asks of a publisher."""

from __future__ import annotations

from typing import Protocol

from streaming.events import Event


class Publisher(Protocol):
    """Takes every event of every session, on the event loop.

    A session begins with ``SessionStarted``. It ends with ``SessionEnded``, also when its client
    has vanished: what it said last is captioned all the same. Only a session that fails ends with
    an ``Error`` that is fatal.

    The server calls ``start`` before it listens and ``stop`` after the last session has ended. A
    publisher that fails is logged and costs neither a session nor another publisher.
    """

    async def start(self) -> None:
        """Begin work; returns once events may come, whether or not a peer is reached yet."""
        ...

    def publish(self, session_id: str, event: Event) -> None:
        """Take one event without blocking; a publisher that cannot keep up drops partials first."""
        ...

    async def stop(self) -> None:
        """Deliver what is still queued, within a few seconds, and release everything."""
        ...
