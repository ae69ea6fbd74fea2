"""Sans-I/O core of the native protocol: messages in, commands out; events in, JSON text out.

docs/protocol.md describes the messages. Every key and value is checked here, so that whoever acts
on a command need not doubt it; whatever comes in, only ``ProtocolError`` comes out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from a2p_engine.types import EAGERNESS, SAMPLE_RATE_HZ, Eagerness, Task
from streaming.audio import CHANNELS, ENCODINGS, SAMPLE_RATES_HZ, AudioFormat
from streaming.errors import BadCommand, BadOption, BadStart, UnexpectedFrame
from streaming.events import Event
from streaming.vad import DEFAULT_DETECTOR, DETECTORS
from streaming.validation import JsonObject, parse_object, shown

TASKS: tuple[Task, ...] = ("transcribe", "translate")
COMMANDS = ("glossary.edit", "flush", "stop")
MAX_TOP_K = 50
PARTIAL_INTERVAL_MS = (100, 10_000)
STATS_INTERVAL_MS = (500, 600_000)
_ABSENT = object()

Entry = str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """The ``options`` of a ``start``; see docs/protocol.md."""

    vad: str = DEFAULT_DETECTOR
    partials: bool = True
    partial_interval_ms: int = 500
    top_k: int = 10
    threshold: float | Eagerness = "balanced"
    stats_interval_ms: int = 5000
    words: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryChoice:
    """Which terms a session begins with.

    Attributes:
        name: a glossary of the server.
        entries: further entries, as in a JSON glossary; not yet checked.
        default: the client said nothing, so the server's default applies.
    """

    name: str | None = None
    entries: tuple[Entry, ...] = ()
    default: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Begin a session."""

    audio: AudioFormat = field(default_factory=AudioFormat)
    language: str = "en"
    task: Task = "transcribe"
    glossary: GlossaryChoice = field(default_factory=GlossaryChoice)
    options: StreamOptions = field(default_factory=StreamOptions)


@dataclass(frozen=True, slots=True)
class Audio:
    """PCM bytes in the format of the ``start``."""

    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class EditGlossary:
    """Change the session's glossary; entries are not yet checked."""

    add: tuple[Entry, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flush:
    """End the open segment now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio; deliver what is left and end."""


Command = Start | Audio | EditGlossary | Flush | Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a server offers, to check a ``start`` against."""

    languages: Collection[str]
    glossaries: Collection[str] = ()


class Protocol:
    """One connection's side of the protocol; knows only whether the session has started."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._started = False
        self._seq = 0

    def receive_text(self, text: str) -> Command:
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
            return _command(kind, JsonObject(message, BadCommand))
        if kind != "start":
            raise BadStart(f'the first message has type {shown(kind)}; accepted: "start"')
        start = _start(JsonObject(message, BadOption), self._offer)
        self._started = True
        return start

    def receive_bytes(self, data: bytes) -> Command:
        """Take a binary message.

        Raises:
            UnexpectedFrame: the session has not started.
        """
        if not self._started:
            raise UnexpectedFrame("binary data before the start; send a 'start' message first")
        return Audio(data)

    def send(self, event: Event) -> str:
        """The event's text message, numbered in the order of the calls."""
        self._seq += 1
        return json.dumps({**event.to_dict(), "seq": self._seq}, ensure_ascii=False)


def _command(kind: object, message: JsonObject) -> Command:
    match kind:
        case "flush":
            command: Command = Flush()
        case "stop":
            command = Stop()
        case "glossary.edit":
            add = message.items("add", (str, dict), "a list of strings and objects")
            remove = message.items("remove", (str,), "a list of strings")
            command = EditGlossary(add=add, remove=remove)
        case _:
            raise BadCommand(f"unknown type {shown(kind)}; accepted: {', '.join(COMMANDS)}")
    message.done()
    return command


def _start(message: JsonObject, offer: Offer) -> Start:
    start = Start(
        audio=_audio(message.object("audio")),
        language=message.choice("language", "en", offer.languages),
        task=message.choice("task", "transcribe", TASKS),
        glossary=_glossary(message, offer),
        options=_options(message.object("options")),
    )
    message.done()
    return start


def _audio(message: JsonObject) -> AudioFormat:
    audio = AudioFormat(
        encoding=message.choice("encoding", "pcm_s16le", ENCODINGS),
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
        top_k=message.integer("top_k", 10, 0, MAX_TOP_K),
        threshold=message.probability("threshold", "balanced", EAGERNESS),
        stats_interval_ms=message.integer(
            "stats_interval_ms", 5000, *STATS_INTERVAL_MS, or_zero=True
        ),
        words=message.boolean("words", True),
    )
    message.done()
    return options
