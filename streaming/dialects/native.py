"""Sans-I/O core of the native protocol: messages in, commands out; events in, JSON text out.

docs/protocol.md describes the messages. Every key and value is checked here, so that whoever acts
on a command need not doubt it; whatever comes in, only ``ProtocolError`` comes out.
"""

from __future__ import annotations

import json
from collections import deque

from a2p_engine.types import EAGERNESS, SAMPLE_RATE_HZ
from streaming.audio.pcm import CHANNELS, PCM_ENCODINGS, SAMPLE_RATES_HZ, AudioFormat
from streaming.commands import (
    TASKS,
    Audio,
    Command,
    EditGlossary,
    Flush,
    GlossaryChoice,
    Offer,
    Resume,
    Start,
    Stop,
    StreamOptions,
)
from streaming.dialects.base import Goodbye, Message, Reaction, close_for
from streaming.errors import (
    BadCommand,
    BadOption,
    BadStart,
    ProtocolError,
    UnexpectedFrame,
    UnknownResume,
    error_event,
)
from streaming.events import Event, Partial, SessionResumed, Stats
from streaming.vad import DEFAULT_DETECTOR, DETECTORS
from streaming.validation import JsonObject, parse_object, shown

COMMANDS = ("glossary.edit", "flush", "stop")
SUBPROTOCOL = "a2p"
MAX_TOP_K = 50
PARTIAL_INTERVAL_MS = (100, 10_000)
ENDPOINT_MS = (200, 5_000)
STATS_INTERVAL_MS = (500, 600_000)
MAX_COUNT = 2**53
REPLAYABLE_EVENTS = 512  # an hour's meeting has as many between two breaks of a connection
_ABSENT = object()


class Native:
    """One session's side of the protocol; a ``Dialect``."""

    name = "native"
    idle_timeout_s: float | None = None

    def __init__(self, offer: Offer, *, subprotocols: tuple[str, ...] = ()) -> None:
        self.subprotocol = SUBPROTOCOL if SUBPROTOCOL in subprotocols else None
        self._offer = offer
        self._started = False
        self._seq = 0
        self._sent: deque[tuple[int, str]] = deque(maxlen=REPLAYABLE_EVENTS)
        self._forgotten_seq = 0  # no event up to this number can be replayed

    def greet(self) -> Reaction:
        """The client speaks first."""
        return Reaction()

    def receive_text(self, text: str) -> Reaction:
        """Parse a text message.

        Raises:
            BadJson: it is not a JSON object.
            BadStart: it should be the ``start`` and is another message.
            BadOption: it is a ``start`` with a key or value that is not offered.
            BadCommand: after the start, it is not a command of the right shape.
        """
        message = parse_object(text)
        kind = message.pop("type", None)
        if self._started:
            return Reaction((_command(kind, JsonObject(message, BadCommand)),))
        values = JsonObject(message, BadOption)
        if kind == "start":
            command: Command = _start(values, self._offer)
        elif kind == "resume":
            command = _resume(values)
        else:
            raise BadStart(f'the first message has type {shown(kind)}; accepted: "start", "resume"')
        self._started = True
        return Reaction((command,))

    def receive_bytes(self, data: bytes) -> Reaction:
        """Take a binary message.

        Raises:
            UnexpectedFrame: the session has not started.
        """
        if not self._started:
            raise UnexpectedFrame("binary data before the start; send a 'start' message first")
        return Reaction((Audio(data),))

    def refuse(self, error: ProtocolError) -> tuple[Message, ...] | None:
        """A command that is not understood is told and skipped; other errors end the session."""
        return (error_event(error, fatal=False),) if isinstance(error, BadCommand) else None

    def send(self, event: Event) -> tuple[str, ...]:
        """The event's text message, numbered in the order of the calls."""
        self._seq += 1
        text = json.dumps({**event.to_dict(), "seq": self._seq}, ensure_ascii=False)
        if not isinstance(event, Partial | Stats | SessionResumed):
            if len(self._sent) == REPLAYABLE_EVENTS:
                self._forgotten_seq = self._sent[0][0]
            self._sent.append((self._seq, text))
        return (text,)

    def replay(self, last_seq: int) -> tuple[str, ...]:
        """Messages behind ``last_seq`` that may have been lost; what is stale is left out.

        Raises:
            UnknownResume: some of them are not kept any more, or were never sent.
        """
        if not self._forgotten_seq <= last_seq <= self._seq:
            raise UnknownResume(
                f"last_seq {last_seq} cannot be resumed from; "
                f"accepted: {self._forgotten_seq} to {self._seq}"
            )
        return tuple(text for seq, text in self._sent if seq > last_seq)

    def goodbye(self, error: Exception | None, retry_after_s: float | None) -> Goodbye:
        """A fatal error is told before the close that its kind has."""
        code, reason = close_for(error)
        if error is None:
            return Goodbye((), code)
        return Goodbye((error_event(error, fatal=True, retry_after_s=retry_after_s),), code, reason)


def _command(kind: object, message: JsonObject) -> Command:
    match kind:
        case "flush":
            command: Command = Flush()
        case "stop":
            command = Stop()
        case "glossary.edit":
            add = message.items("add", (str, dict), "a list of strings and objects")
            remove = message.items("remove", (str,), "a list of strings")
            command = EditGlossary(add=add, remove=remove, save=message.boolean("save", False))
        case _:
            raise BadCommand(f"unknown type {shown(kind)}; accepted: {', '.join(COMMANDS)}")
    message.done()
    return command


def _resume(message: JsonObject) -> Resume:
    resume = Resume(
        session_id=message.required_text("session_id"),
        token=message.required_text("token"),
        last_seq=message.integer("last_seq", 0, 0, MAX_COUNT),
        first_frame=message.integer("first_frame", 0, 0, MAX_COUNT),
    )
    message.done()
    return resume


def _start(message: JsonObject, offer: Offer) -> Start:
    start = Start(
        audio=_audio(message.object("audio")),
        language=message.choice("language", "en", offer.languages),
        task=message.choice("task", "transcribe", TASKS),
        glossary=_glossary(message, offer),
        options=_options(message.object("options")),
        resumable=message.boolean("resumable", False),
    )
    message.done()
    return start


def _audio(message: JsonObject) -> AudioFormat:
    audio = AudioFormat(
        encoding=message.choice("encoding", "pcm_s16le", PCM_ENCODINGS),
        sample_rate_hz=message.choice("sample_rate_hz", SAMPLE_RATE_HZ, SAMPLE_RATES_HZ),
        channels=message.choice("channels", 1, CHANNELS),
    )
    message.done()
    return audio


def _glossary(message: JsonObject, offer: Offer) -> GlossaryChoice:
    value = message.take("glossary", _ABSENT)
    if value is _ABSENT:
        return GlossaryChoice(default=True)
    if value is not None and not isinstance(value, dict):
        message.fail("glossary", value, "an object or null")
    chosen = JsonObject(value or {}, BadOption, "glossary.")
    name = chosen.text("name")
    if name is not None and name not in offer.glossaries:
        chosen.fail("name", name, ", ".join(offer.glossaries) or "none, the server has no glossary")
    entries = chosen.items("terms", (str, dict), "a list of strings and objects")
    chosen.done()
    return GlossaryChoice(name=name, entries=entries)


def _options(message: JsonObject) -> StreamOptions:
    options = StreamOptions(
        vad=message.choice("vad", DEFAULT_DETECTOR, DETECTORS),
        partials=message.boolean("partials", True),
        partial_interval_ms=message.integer("partial_interval_ms", 500, *PARTIAL_INTERVAL_MS),
        endpoint_ms=message.integer("endpoint_ms", 500, *ENDPOINT_MS),
        top_k=message.integer("top_k", 10, 0, MAX_TOP_K),
        threshold=message.probability("threshold", "balanced", EAGERNESS),
        stats_interval_ms=message.integer(
            "stats_interval_ms", 5000, *STATS_INTERVAL_MS, or_zero=True
        ),
        words=message.boolean("words", True),
        target_language=message.text("target_language") or "en",
        source_text=message.boolean("source_text", False),
    )
    message.done()
    return options
