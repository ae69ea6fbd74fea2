"""What a wire protocol is to the server: a sans-I/O core between messages, commands and events.

A dialect sees a connection's messages in order and the events of its session in order, keeps what
it must remember between them and answers with records; it knows no socket, no clock and no model.
``Connection`` does the I/O for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streaming.commands import Command
from streaming.errors import ProtocolError, answer_to
from streaming.events import Event

NORMAL_CLOSE = 1000
MAX_REASON_BYTES = 123  # of a close frame (RFC 6455, section 5.5)

# A text message as it is, or an event that ``Dialect.send`` puts into words when its turn comes.
Message = str | Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Handshake:
    """What a client said before its first message.

    Attributes:
        path: of the URL.
        query: decoded pairs in the order given; names may repeat.
        headers: by lower-case name.
        subprotocols: offered by the client, in its order.
        peer: the client's address, without its port.
    """

    path: str = "/"
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    peer: str = ""

    def first(self, name: str, default: str | None = None) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a query parameter."""
        return tuple(value for key, value in self.query if key == name)


class Reaction(NamedTuple):
    """What follows from a message.

    Attributes:
        commands: to be carried out, in order.
        replies: to be sent behind what is waiting to be sent; commands may add events behind them.
    """

    commands: tuple[Command, ...] = ()
    replies: tuple[Message, ...] = ()


class Goodbye(NamedTuple):
    """How a connection ends: last messages, close code and reason."""

    messages: tuple[Message, ...]
    code: int
    reason: str = ""


class Dialect(Protocol):
    """One connection's side of a wire protocol.

    The first command that comes out of it is a ``Start`` (or a ``Resume``), the last one a
    ``Stop``; after that no audio is taken.

    Attributes:
        name: for logs and metrics.
        subprotocol: the one to accept, None for none.
        idle_timeout_s: a client of which nothing was heard for so long is given up; None leaves it
            to the settings.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def subprotocol(self) -> str | None: ...  # noqa: D102

    @property
    def idle_timeout_s(self) -> float | None: ...  # noqa: D102

    def greet(self) -> Reaction:
        """React to the connection itself, once, before any message.

        Raises:
            ProtocolError: what it asks for is not offered; the connection has to end.
        """
        ...

    def receive_text(self, text: str) -> Reaction:
        """React to a text message.

        Raises:
            ProtocolError: it is not understood; see ``refuse``.
        """
        ...

    def receive_bytes(self, data: bytes) -> Reaction:
        """React to a binary message.

        Raises:
            ProtocolError: none is due; see ``refuse``.
        """
        ...

    def refuse(self, error: ProtocolError) -> tuple[Message, ...] | None:
        """Answer to a message that was not understood; None when the connection has to end."""
        ...

    def send(self, event: Event) -> tuple[str, ...]:
        """The messages that tell an event; none where the protocol has no word for it.

        Called in the order of the events, when the socket has room: of events that supersede each
        other (partials of one segment, statistics) earlier ones may never come.
        """
        ...

    def goodbye(self, error: Exception | None, retry_after_s: float | None) -> Goodbye:
        """The end of the connection: None for good order, else what went wrong.

        Args:
            error: also of kinds that are nobody's fault, such as ``ShuttingDown``.
            retry_after_s: when to try again, if that would help.
        """
        ...


def close_for(error: Exception | None, retry_after_s: float | None = None) -> tuple[int, str]:
    """The close code and reason that go with an error, for dialects without rules of their own."""
    if error is None:
        return NORMAL_CLOSE, ""
    answer = answer_to(error)
    hint = f"; retry after {retry_after_s:g} s" if retry_after_s is not None else ""
    return answer.close, (answer.code + hint)[:MAX_REASON_BYTES]
