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


class Owner(Protocol):
    """The connection that a session belongs to at present."""

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
        self._owner: Owner | None = None
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

    def attach(self, owner: Owner) -> None:
        """Belong to a connection; one that is still there gives way."""
        if self._owner is not None:
            self._owner.take_over()
        self._owner = owner

    def detach(self, owner: Owner) -> bool:
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
