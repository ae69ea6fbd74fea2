"""What a client can ask of a session, whatever wire protocol it speaks: small immutable records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from a2p_engine.types import Eagerness, Task
from streaming.audio.pcm import AudioFormat
from streaming.vad import DEFAULT_DETECTOR

TASKS: tuple[Task, ...] = ("transcribe", "translate")

Entry = str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """The ``options`` of a ``start``; see docs/protocol.md."""

    vad: str = DEFAULT_DETECTOR
    partials: bool = True
    partial_interval_ms: int = 500
    endpoint_ms: int = 500
    top_k: int = 10
    threshold: float | Eagerness = "balanced"
    stats_interval_ms: int = 5000
    words: bool = True
    target_language: str = "en"
    source_text: bool = False


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
    """Begin a session.

    Attributes:
        resumable: whether the session outlives its connection for a while.
    """

    audio: AudioFormat = field(default_factory=AudioFormat)
    language: str = "en"
    task: Task = "transcribe"
    glossary: GlossaryChoice = field(default_factory=GlossaryChoice)
    options: StreamOptions = field(default_factory=StreamOptions)
    resumable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """Go on with a session whose connection broke.

    Attributes:
        session_id: as told when it started.
        token: the secret told with it.
        last_seq: number of the last event that arrived.
        first_frame: first audio frame (samples of all channels, at the client's rate) that the
            client can still send.
    """

    session_id: str
    token: str
    last_seq: int
    first_frame: int


@dataclass(frozen=True, slots=True)
class Audio:
    """Bytes in the format of the ``start``."""

    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class EditGlossary:
    """Change the session's glossary; entries are not yet checked.

    Attributes:
        add: entries as in a JSON glossary.
        remove: texts of terms.
        save: whether the glossary of the server that the session uses is changed as well.
    """

    add: tuple[Entry, ...] = ()
    remove: tuple[str, ...] = ()
    save: bool = False


@dataclass(frozen=True, slots=True)
class Flush:
    """End the open segment now."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget the audio since the last flush that has no final yet.

    Attributes:
        ended: also that of segments that have ended by themselves, not only the one being spoken.
    """

    ended: bool = True


@dataclass(frozen=True, slots=True)
class Stop:
    """No more audio; deliver what is left and end."""


Command = Start | Resume | Audio | EditGlossary | Flush | Discard | Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a server offers, to check a ``start`` against.

    Attributes:
        speech_llm: name of the model, for protocols that tell it.
    """

    languages: Collection[str]
    glossaries: Collection[str] = ()
    speech_llm: str = ""
