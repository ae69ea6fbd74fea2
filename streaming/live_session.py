"""A session as it lives on between its connections: what a broken one leaves, the next takes up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from a2p_engine.errors import A2PError
from streaming.dialects.base import Dialect
from streaming.events import Event
from streaming.outbox import Outbox
from streaming.runner import SessionRunner
from streaming.security.admission import Ticket

logger = logging.getLogger(__name__)


class Connected(Protocol):
    """A connection, as far as the hub and the session that belongs to it are concerned."""

    def shut_down(self) -> None:
        """Deliver last finals and close, soon."""
        ...

    def take_over(self) -> None:
        """Give way: the client has come back over another connection."""
        ...


class LiveSession:
    """The parts of one session that do not depend on a socket.

    Attributes:
        session_id: public name.
        token: secret that resumes it; empty when it ends with its connection.
        dialect: numbers and words the events; the next connection goes on with it.
        outbox: events that no socket has taken yet.
        worker: the task that calls the engine; it ends with the session.
        ticket: whose it is, and what it may use.
        unfollow: ends the following of a stored glossary.
        stats_interval_ms: how often the client wants statistics; 0 is never.
    """

    def __init__(
        self,
        session_id: str,
        token: str,
        dialect: Dialect,
        outbox: Outbox,
        ticket: Ticket,
        stats_interval_ms: int = 0,
    ) -> None:
        self.session_id = session_id
        self.token = token
        self.ticket = ticket
        self.stats_interval_ms = stats_interval_ms
        self.dialect = dialect
        self.outbox = outbox
        self.unfollow: Callable[[], None] = lambda: None
        self._owner: Connected | None = None
        self._runner: SessionRunner | None = None
        self._muted = False
        self.worker: asyncio.Task[None]

    def begin(self, runner: SessionRunner) -> None:
        """Set to work."""
        self._runner = runner
        self.worker = asyncio.create_task(runner.work())

    @property
    def runner(self) -> SessionRunner:
        """Takes the client's audio and commands."""
        assert self._runner is not None  # nobody gets hold of a session before it has begun
        return self._runner

    def tell(self, event: Event) -> None:
        """Queue an event for the client."""
        if not self._muted:
            self.outbox.put(event)

    def attach(self, owner: Connected) -> Connected | None:
        """Belong to a connection; returns the one that gives way, if one is still there."""
        previous, self._owner = self._owner, owner
        if previous is not None:
            previous.take_over()
        return previous

    def detach(self, owner: Connected) -> bool:
        """Belong to nobody; False when it belongs to another connection already."""
        if self._owner is not owner:
            return False
        self._owner = None
        return True

    async def end(self, patience_s: float) -> None:
        """Break off and free everything; with patience, only after the last words have their final.

        The client will not see them, but publishers do.
        """
        self._muted = True
        try:
            if patience_s and not self.worker.done():
                async with asyncio.timeout(patience_s):
                    await self.runner.stop()
                    await asyncio.shield(self.worker)
        except (A2PError, TimeoutError) as error:
            logger.warning("a session was broken off: %s", type(error).__name__)
        finally:
            self.worker.cancel()
            await asyncio.gather(self.worker, return_exceptions=True)
            self.unfollow()
            await self.runner.close()
            self.ticket.close()
