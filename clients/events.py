"""Events of a caption session as typed records.

``parse_event`` never fails: a message of an unknown type, or a known one without a field it should
have, becomes a ``RawEvent``, so that a newer server cannot break an older client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class TermUse:
    """A glossary term that was offered to the speech model.

    Attributes:
        term: as spelled in the glossary.
        probability: calibrated probability in [0, 1] that it was spoken.
        start_s: where it is thought to begin, None when unknown.
        end_s: where it is thought to end, None when unknown.
        used: whether the caption contains it.
    """

    term: str
    probability: float
    start_s: float | None = None
    end_s: float | None = None
    used: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A written word with its place in the audio."""

    word: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What was said, beside its translation."""

    text: str
    language: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A glossary entry that the server did not take, and why."""

    entry: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryState:
    """The glossary in force; ``rejected`` names the first few of ``rejected_count`` entries."""

    version: int
    terms: int
    rejected: tuple[Rejected, ...] = ()
    rejected_count: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStarted:
    """The server took the session; ``audio`` and ``options`` are what it will work with."""

    seq: int
    session_id: str
    protocol: int
    audio: Mapping[str, Any]
    language: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    glossary: GlossaryState
    resume: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionResumed:
    """The session goes on after a break, with what was missed.

    Attributes:
        next_frame: audio frame of the session to go on with.
        skipped_frames: frames that could not be sent any more.
        edits: glossary edits that had arrived.
        flushes: flushes that had arrived.
    """

    seq: int
    session_id: str
    next_frame: int
    skipped_frames: int = 0
    edits: int = 0
    flushes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStarted:
    """Somebody began to speak."""

    seq: int
    segment_id: int
    time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStopped:
    """Speech paused long enough to end the segment."""

    seq: int
    segment_id: int
    time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial:
    """The open segment so far; replaces the segment's previous partial.

    Attributes:
        committed: text that will not change any more.
        volatile: the rest, which may.
        source: of a translation, what was said so far, if the option ``source_text`` is on.
    """

    seq: int
    segment_id: int
    revision: int
    start_s: float
    end_s: float
    committed: str
    volatile: str
    terms: tuple[TermUse, ...] = ()
    source: Source | None = None

    @property
    def text(self) -> str:
        """Committed and volatile text together."""
        return self.committed + self.volatile


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """A finished segment.

    Attributes:
        reason: endpoint, max_length, flush or stop.
        source: of a translation, what was said, if the option ``source_text`` is on.
    """

    seq: int
    segment_id: int
    revision: int
    start_s: float
    end_s: float
    text: str
    language: str = ""
    reason: str = "endpoint"
    words: tuple[Word, ...] = ()
    terms: tuple[TermUse, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryUpdated:
    """An edit is in force for all audio after ``audio_time_s``."""

    seq: int
    version: int
    terms: int
    added: int = 0
    removed: int = 0
    rejected: tuple[Rejected, ...] = ()
    rejected_count: int = 0
    audio_time_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Flushed:
    """Everything before ``flush`` has had its final."""

    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded:
    """All finals have come; nothing follows."""

    seq: int
    audio_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """How the server is doing; ``lag_s`` is audio received but not yet worked on."""

    seq: int
    audio_s: float
    lag_s: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    sessions: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorReported:
    """The server complained; after a fatal complaint it closes the connection."""

    seq: int
    code: str
    message: str
    fatal: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RawEvent:
    """A message this client does not know, unchanged: its times are those of the server."""

    seq: int
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconnecting:
    """The connection was lost."""

    attempt: int
    delay_s: float
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconnected:
    """Captions go on where they were broken off.

    Attributes:
        attempts: connections it took.
        offset_s: time in the client's audio from which on it is sent (again).
        dropped_s: audio that was never sent because the bounded buffer overflowed.
        resumed: whether the session itself goes on; else it was gone, a new one hears the audio
            since the last final again, and the open partial is void.
    """

    attempts: int
    offset_s: float
    dropped_s: float
    resumed: bool = False


ServerEvent = (
    SessionStarted
    | SessionResumed
    | SpeechStarted
    | SpeechStopped
    | Partial
    | Final
    | GlossaryUpdated
    | Flushed
    | SessionEnded
    | Stats
    | ErrorReported
    | RawEvent
)
Event = ServerEvent | Reconnecting | Reconnected

_TYPES: dict[str, type[Any]] = {
    "session.started": SessionStarted,
    "session.resumed": SessionResumed,
    "speech.started": SpeechStarted,
    "speech.stopped": SpeechStopped,
    "partial": Partial,
    "final": Final,
    "glossary.updated": GlossaryUpdated,
    "flushed": Flushed,
    "session.ended": SessionEnded,
    "stats": Stats,
    "error": ErrorReported,
}
_RECORDS: dict[str, type[Any]] = {"terms": TermUse, "words": Word, "rejected": Rejected}
_PARTS: dict[str, type[Any]] = {"glossary": GlossaryState, "source": Source}
_TIMES = frozenset({"start_s", "end_s", "time_s", "audio_s", "audio_time_s"})


def parse_event(
    message: Mapping[str, Any], *, shift_s: float = 0.0, shift_segments: int = 0
) -> ServerEvent:
    """Turn one message of the server into its record.

    Args:
        message: the decoded JSON object.
        shift_s: added to every time, so that times keep counting over a reconnect.
        shift_segments: added to segment ids for the same reason.
    """
    kind = str(message.get("type", ""))
    try:
        event: ServerEvent = _build(_TYPES[kind], message, shift_s, shift_segments)
    except (KeyError, TypeError, ValueError, AttributeError):
        seq = message.get("seq")
        return RawEvent(seq=seq if isinstance(seq, int) else 0, type=kind, data=message)
    return event


def _build(cls: type[Any], data: Mapping[str, Any], shift_s: float, shift_segments: int) -> Any:
    """Make a record of the keys it knows; others are ignored, missing ones raise TypeError."""

    def convert(name: str, value: Any) -> Any:
        if name in _TIMES and value is not None:
            return value + shift_s
        if name == "segment_id":
            return value + shift_segments
        if name in _RECORDS and isinstance(value, list):
            return tuple(_build(_RECORDS[name], item, shift_s, shift_segments) for item in value)
        if name in _PARTS and value is not None:
            return _build(_PARTS[name], value, shift_s, shift_segments)
        return value

    known = {item.name for item in fields(cls)} & data.keys()
    return cls(**{name: convert(name, data[name]) for name in known})
