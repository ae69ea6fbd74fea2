"""Sans-I/O core of OpenAI's Realtime protocol, as far as it is about transcription.

The session begins with the first audio, as the client has set it up by then. Captions are told as
deltas that only ever add to an item's text: what is settled of a hypothesis, and the rest with the
final. docs/compatibility.md lists the clients.
"""

from __future__ import annotations

import base64
from itertools import count
from typing import Any

from streaming.commands import Audio, Command, EditGlossary, Offer
from streaming.dialects.base import Goodbye, Handshake, Message, Reaction, close_for
from streaming.dialects.realtime.configuration import (
    GA_PATHS,
    LEGACY_PATHS,
    Configuration,
)
from streaming.dialects.realtime.items import Book
from streaming.dialects.realtime.refusals import INVALID_REQUEST, Fields, Refused
from streaming.dialects.realtime.turns import (
    COMMIT_EMPTY,
    ClientTurns,
    ServerTurns,
    Turns,
)
from streaming.dialects.realtime.updates import read_ga, read_legacy, read_query, read_vllm
from streaming.dialects.realtime.wording import VLLM, OpenAI, Texts, Trouble
from streaming.errors import BadJson, ProtocolError, answer_to, error_event
from streaming.events import (
    Error,
    Event,
    Final,
    Flushed,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from streaming.validation import parse_object, shown

SUBPROTOCOL = "realtime"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"  # browsers can set no header
BETA_HEADER = ("openai-beta", "realtime=v1")
LEAST_COMMIT_S = 0.1
CLIENT_EVENTS = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "transcription_session.update",
)
# Closes after which clients come back by themselves, unless an error was told before.
COME_BACK = (1011, 1012, 1013)
SERVER_CODES = ("internal", "model_failed")


class Realtime:
    """One connection's side of the protocol; a ``Dialect``.

    Args:
        handshake: tells which words the client knows.
        offer: what the server has.
        token: random; part of the names of this connection's session, items and events.
        named_glossary: whether sessions that name no glossary get one of the server's.
    """

    name = "realtime"
    idle_timeout_s: float | None = None

    def __init__(
        self, handshake: Handshake, offer: Offer, *, token: str, named_glossary: bool = False
    ) -> None:
        self.subprotocol = SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else None
        self._offer = offer
        self._named_glossary = named_glossary
        self._handshake = handshake
        self._session = Configuration()
        self._openai = OpenAI(token, beta=_is_beta(handshake))
        items = count(1)
        self._book = Book(self._openai, lambda: f"item_{token}_{next(items)}")
        self._turns: Turns | None = None  # there is none before the session has begun
        self._paths = GA_PATHS
        self._buffered_s = 0.0  # audio since the last commit or clear
        self._event_id: str | None = None  # of the message that is being read

    def greet(self) -> Reaction:
        """Tell what holds for a client that asks for nothing more.

        Raises:
            BadOption: the address asks for what is not offered.
        """
        self._session = read_query(self._handshake, self._offer)
        return Reaction(replies=self._book.say.created(self._session))

    def receive_text(self, text: str) -> Reaction:
        """React to a client event.

        Raises:
            BadJson: it is not a JSON object.
            Refused: it is not understood, or not possible now.
        """
        self._event_id = None
        message = parse_object(text)
        event_id = message.pop("event_id", None)
        self._event_id = event_id if isinstance(event_id, str) else None
        match message.pop("type", None):
            case "input_audio_buffer.append":
                return self._append(message)
            case "input_audio_buffer.commit":
                return self._commit(message)
            case "input_audio_buffer.clear":
                return self._clear()
            case "session.update" if "model" in message and "session" not in message:
                return self._update_vllm(Fields(message))
            case "session.update":
                return self._update(Fields(message), beta=False)
            case "transcription_session.update":
                return self._update(Fields(message), beta=True)
            case unknown:
                raise Refused(
                    f"type is {shown(unknown)}; accepted: {', '.join(CLIENT_EVENTS)}",
                    param="type",
                )

    def receive_bytes(self, data: bytes) -> Reaction:
        """Refuse: audio comes as base64 in text.

        Raises:
            Refused: always.
        """
        self._event_id = None
        raise Refused(
            "a binary message; accepted: JSON, with audio in base64", code="invalid_event"
        )

    def refuse(self, error: ProtocolError) -> tuple[Message, ...] | None:
        """Every error is told, and the session goes on."""
        code = "invalid_json" if isinstance(error, BadJson) else answer_to(error).code
        param = None
        if isinstance(error, Refused):
            code, param = error.code, error.param
        trouble = Trouble(
            kind=INVALID_REQUEST,
            code=code,
            message=str(error),
            param=param,
            event_id=self._event_id,
        )
        return self._book.say.error(trouble)

    def send(self, event: Event) -> Texts:
        """The event in the words of the protocol, if it has any."""
        turns = self._turns
        if turns is None:
            return ()
        match event:
            case Partial():
                return turns.partial(event)
            case Final():
                return turns.final(event)
            case SpeechStarted():
                return turns.started(event)
            case SpeechStopped():
                return turns.stopped(event)
            case Flushed():
                return turns.flushed()
            case Error():
                return self._trouble(event, turns)
        return ()

    def goodbye(self, error: Exception | None, retry_after_s: float | None) -> Goodbye:
        """Items that were still to come; then why it ends, unless the client may come back.

        Clients take an error event for the end of their session as a whole, but a close that says
        "later" for what it is.
        """
        code, reason = close_for(error, retry_after_s)
        told = self._turns.end() if self._turns is not None else ()
        if error is not None and code not in COME_BACK:
            told += self._book.say.error(_as_trouble(error_event(error, fatal=True)))
        return Goodbye(told, code, reason)

    # What the client sends

    def _append(self, message: dict[str, Any]) -> Reaction:
        audio = message.get("audio")
        if not isinstance(audio, str):
            raise Refused(f"audio is {shown(audio)}; accepted: base64", param="audio")
        try:
            data = base64.b64decode(audio, validate=True)
        except ValueError as error:
            raise Refused(f"audio is not base64: {error}", param="audio") from None
        if not data:
            return Reaction()
        self._buffered_s += self._session.audio.seconds(len(data))
        return Reaction((*self._begin(), Audio(data)))

    def _begin(self) -> tuple[Command, ...]:
        """The command that begins the session, once."""
        if self._turns is not None:
            return ()
        by_server = self._session.turns is not None
        self._turns = ServerTurns(self._book) if by_server else ClientTurns(self._book)
        return (self._session.start(),)

    def _commit(self, message: dict[str, Any]) -> Reaction:
        if self._book.say is not self._openai:
            return self._commit_vllm(final=message.get("final") is True)
        if self._turns is None or self._buffered_s < LEAST_COMMIT_S:
            had = f"{self._buffered_s * 1000:.0f} ms of audio"
            least = f"{LEAST_COMMIT_S * 1000:.0f} ms"
            raise Refused(f"nothing to commit: {had}; accepted: {least} or more", code=COMMIT_EMPTY)
        audio_s, self._buffered_s = self._buffered_s, 0.0
        return self._turns.commit(self._event_id, audio_s)

    def _commit_vllm(self, *, final: bool) -> Reaction:
        """Only the last commit of a text ends it; the first begins it, and means nothing here."""
        if not final:
            return Reaction()
        self._buffered_s = 0.0
        if self._turns is None:
            return Reaction(replies=self._book.complete(self._book.item()))
        return self._turns.commit(None, 0.0)

    def _clear(self) -> Reaction:
        self._buffered_s = 0.0
        if self._turns is None:
            return Reaction(replies=self._book.say.cleared())
        return self._turns.clear()

    # What the session is to be like

    def _update(self, message: Fields, *, beta: bool) -> Reaction:
        if self._turns is None:
            self._openai.beta = beta
        self._paths = LEGACY_PATHS if beta else GA_PATHS
        session = message.required("session")
        read = read_legacy if beta else read_ga
        commands = self._become(read(session, self._session, self._offer))
        return Reaction(commands, self._book.say.updated(self._session))

    def _update_vllm(self, message: Fields) -> Reaction:
        new = read_vllm(message, self._session)
        if self._turns is None:
            self._book.say = VLLM()
        return Reaction(self._become(new))

    def _become(self, new: Configuration) -> tuple[Command, ...]:
        """Adopt a configuration; what it does to the terms of a session that has begun."""
        old = self._session
        if self._turns is not None:
            new = old.updated_after_start(new, self._paths)
        self._session = new
        self._book.logprobs = new.logprobs
        return self._edit(old.terms, new.terms) if self._turns is not None else ()

    def _edit(self, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[Command, ...]:
        """What to tell the glossary.

        A term that is no longer asked for may also be one of the server's glossary: it stays.
        """
        session, known, wanted = self._session, set(old), set(new)
        named = session.glossary_id or (session.default_glossary and self._named_glossary)
        gone = () if named else tuple(term for term in old if term not in wanted)
        fresh = tuple(term for term in new if term not in known)
        return (EditGlossary(add=fresh, remove=gone),) if fresh or gone else ()

    def _trouble(self, event: Error, turns: Turns) -> Texts:
        if event.segment_id is not None:
            return turns.failed(event.segment_id, _as_trouble(event))
        return self._book.say.error(_as_trouble(event))


def _is_beta(handshake: Handshake) -> bool:
    name, value = BETA_HEADER
    return handshake.headers.get(name) == value or BETA_SUBPROTOCOL in handshake.subprotocols


def _as_trouble(event: Error) -> Trouble:
    return Trouble(
        kind="server_error" if event.code in SERVER_CODES else INVALID_REQUEST,
        code=event.code,
        message=event.message,
    )
