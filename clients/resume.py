"""What a client remembers of a session of the server, to go on with it over another connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from clients.events import Flushed, ServerEvent, SessionResumed, SessionStarted
from clients.messages import Message


@dataclass(kw_only=True)
class OpenSession:
    """One session of the server.

    Attributes:
        session_id: its name.
        token: the secret that resumes it; empty when the server keeps no broken sessions.
        origin: where it begins in the client's stream of bytes.
        last_seq: number of the last message that arrived.
        edits: glossary edits of the session, in order.
        flushes: how many flushes were sent, and
        flushed: how many of them were answered.
    """

    session_id: str
    token: str
    origin: int
    last_seq: int = 0
    edits: list[Message] = field(default_factory=list)
    flushes: int = 0
    flushed: int = 0

    @classmethod
    def of(cls, started: SessionStarted, origin: int) -> OpenSession:
        """The session that an answer to a ``start`` tells of."""
        token = str(started.resume.get("token", ""))
        return cls(session_id=started.session_id, token=token, origin=origin)

    def note(self, event: ServerEvent) -> None:
        """Take notice of an event that arrived."""
        if isinstance(event, SessionResumed):
            return  # what is replayed behind it has lower numbers, and may still be lost
        self.last_seq = max(self.last_seq, event.seq)
        self.flushed += isinstance(event, Flushed)

    def message(self, first_frame: int) -> Message:
        """The message that resumes it; audio can be sent again from ``first_frame`` on."""
        return {
            "type": "resume",
            "session_id": self.session_id,
            "token": self.token,
            "last_seq": self.last_seq,
            "first_frame": first_frame,
        }

    def missed(self, resumed: SessionResumed) -> list[Message]:
        """Commands that the server never got."""
        flushes = [Message(type="flush")] * (self.flushes - resumed.flushes)
        return self.edits[resumed.edits :] + flushes
