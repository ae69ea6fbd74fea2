"""What can go wrong on the streaming side, and how each error is told to a client.

A2PError (a2p_engine.errors)
└── StreamingError
    ├── ProtocolError         the client broke the protocol; nothing else ever leaves protocol.py
    │   ├── UnexpectedFrame   binary before ``start``, or audio after ``stop``
    │   ├── BadJson           a text message is not a JSON object
    │   ├── BadStart          the first message is not a ``start`` the server understands
    │   ├── BadOption         ``start`` asks for a value that is not offered
    │   ├── UnknownResume     there is no such session (any more) to go on with
    │   └── BadCommand        a later message is not understood; the session goes on
    ├── TruncatedAudio        the audio ended inside a sample; the session goes on
    ├── StartTimeout          no ``start`` came in time
    ├── IdleTimeout           nothing at all came for too long
    ├── TakenOver             another connection resumed the session
    ├── ServerFull            all sessions are taken, or one more would be too much
    ├── RateLimited           a client or an address has had its share for now
    ├── Unauthorised          no valid API key came along
    ├── Forbidden             the key, or the page's origin, does not allow it
    ├── TooManyMessages       a flood of messages that carry next to no audio
    ├── SessionTooLong        the session is as old as it may become
    ├── SlowReader            the client does not read its events
    ├── ClientGone            the session was broken off; told to publishers
    ├── ShuttingDown          the server is stopping
    └── SettingsError         a setting is unknown or has a value that cannot be used

``ANSWERS`` is the one table from errors to wire codes and close codes. Whether an error is fatal
depends on where it happens: the close code is used only when it ends the session.
"""

from __future__ import annotations

from typing import NamedTuple

from a2p_engine.errors import A2PError, AudioError, GlossaryError, InputError, ModelError
from streaming.events import Error


class StreamingError(A2PError):
    """Root of the streaming branch."""


class ProtocolError(StreamingError):
    """The client broke the protocol; the text names what is wrong and what is accepted."""


class UnexpectedFrame(ProtocolError):
    """Binary before ``start``, or audio after ``stop``."""


class BadJson(ProtocolError):
    """A text message is not a JSON object."""


class BadStart(ProtocolError):
    """The first message is not a ``start`` the server understands."""


class BadOption(ProtocolError):
    """``start`` asks for a value that is not offered."""


class UnknownResume(ProtocolError):
    """There is no such session to go on with, or not from there; start a new one."""


class BadCommand(ProtocolError):
    """A message after ``start`` is not understood; the session goes on without it."""


class TruncatedAudio(StreamingError):
    """The audio ended inside a sample; the rest of the session is unharmed."""


class StartTimeout(StreamingError):
    """No ``start`` came in time."""


class IdleTimeout(StreamingError):
    """Nothing at all came for too long."""


class TakenOver(StreamingError):
    """The client has resumed the session over another connection; this one is of no use."""


class ServerFull(StreamingError):
    """All sessions are taken, or captions would come late with one more.

    Attributes:
        retry_after_s: when to try again; None leaves it to the settings.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(StreamingError):
    """A client or an address has had its share for now.

    Attributes:
        retry_after_s: when there will be more.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unauthorised(StreamingError):
    """No valid API key came along; the text says nothing that would help to guess one."""


class Forbidden(StreamingError):
    """The key does not open the scope, or a page of this origin may not use the server."""


class TooManyMessages(StreamingError):
    """A flood of messages that carry next to no audio."""


class SessionTooLong(StreamingError):
    """The session is as old as it may become; the client may open another."""


class SlowReader(StreamingError):
    """The client does not read its events, and even finals have piled up."""


class ClientGone(StreamingError):
    """The session was broken off before its end; only publishers are left to be told."""


class ShuttingDown(StreamingError):
    """The server is stopping; finals of what was said have been sent."""


class SettingsError(StreamingError):
    """A setting is unknown or has a value that cannot be used; raised before the server runs."""


class Answer(NamedTuple):
    """How an error looks on the wire: the event's ``code`` and the socket's close code."""

    code: str
    close: int


ANSWERS: dict[type[Exception], Answer] = {
    UnexpectedFrame: Answer("unexpected_frame", 1003),
    BadJson: Answer("bad_json", 1007),
    BadStart: Answer("bad_start", 1008),
    BadOption: Answer("bad_option", 1008),
    BadCommand: Answer("bad_command", 1008),
    UnknownResume: Answer("unknown_session", 1008),
    ProtocolError: Answer("protocol_error", 1008),
    StartTimeout: Answer("start_timeout", 1008),
    IdleTimeout: Answer("idle_timeout", 1008),
    TakenOver: Answer("taken_over", 1008),
    TruncatedAudio: Answer("truncated_audio", 1008),
    AudioError: Answer("bad_audio", 1008),
    GlossaryError: Answer("bad_glossary", 1008),
    InputError: Answer("bad_input", 1008),
    ModelError: Answer("model_failed", 1011),
    ShuttingDown: Answer("shutting_down", 1012),
    ServerFull: Answer("full", 1013),
    RateLimited: Answer("rate_limited", 1013),
    Unauthorised: Answer("unauthorised", 1008),
    Forbidden: Answer("forbidden", 1008),
    TooManyMessages: Answer("too_many_messages", 1008),
    SessionTooLong: Answer("session_too_long", 1008),
    ClientGone: Answer("client_gone", 1006),
    SlowReader: Answer("slow_reader", 1013),
    Exception: Answer("internal", 1011),
}


def answer_to(error: Exception) -> Answer:
    """The row of ``ANSWERS`` for the error's class or its nearest listed ancestor."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def error_event(error: Exception, *, fatal: bool, retry_after_s: float | None = None) -> Error:
    """The event that tells a client of the error.

    The text of errors that were not raised on purpose may show the server's insides, so it stays
    in the server's log.
    """
    expected = isinstance(error, A2PError)
    message = str(error) if expected else "internal error; the server's log says more"
    code = answer_to(error).code
    return Error(code=code, message=message, fatal=fatal, retry_after_s=retry_after_s)
