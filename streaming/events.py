"""Everything a session tells its listeners, as small immutable records.

Inside, times and durations are sample indices at 16 kHz. ``to_dict`` is the edge where they become
seconds: a field named ``*_sample`` or ``*_samples`` is written as ``*_s``; the names alone decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal

from a2p_engine.types import SAMPLE_RATE_HZ, Source, TermHit, Word

PROTOCOL_VERSION = 1
MAX_LISTED_REJECTIONS = 20
INTERNAL = {"wire": False}  # metadata of fields for dialects that ask for more than the native one
OPTIONAL = {"optional": True}  # of fields that are left out when they have no value

EndReason = Literal["endpoint", "max_length", "flush", "stop"]
Rejections = tuple[tuple[str, str], ...]


def seconds(samples: int) -> float:
    """Seconds of 16 kHz audio, to the millisecond."""
    return round(samples / SAMPLE_RATE_HZ, 3)


def _wire_name(name: str) -> str:
    for unit in ("_samples", "_sample"):
        if name.endswith(unit):
            return name.removesuffix(unit) + "_s"
    return name


def _wire_value(name: str, value: object) -> Any:
    if isinstance(value, int) and name.endswith(("_sample", "_samples")):
        return seconds(value)
    if isinstance(value, Word):
        return {**_wire_fields(value), "word": value.text.strip()}
    if is_dataclass(value) and not isinstance(value, type):
        return _wire_fields(value)
    if isinstance(value, tuple):
        return [_wire_value(name, item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _wire_fields(record: Any) -> dict[str, Any]:
    return {
        _wire_name(item.name): _wire_value(item.name, getattr(record, item.name))
        for item in fields(record)
        if not (isinstance(record, Word) and item.name == "text")
        and item.metadata != INTERNAL
        and not (item.metadata == OPTIONAL and getattr(record, item.name) is None)
    }


def _rejections(rejected: Rejections) -> dict[str, Any]:
    listed = [{"entry": entry, "reason": why} for entry, why in rejected[:MAX_LISTED_REJECTIONS]]
    return {"rejected": listed, "rejected_count": len(rejected)}


class Event:
    """Base of all events; ``type`` is the name on the wire."""

    __slots__ = ()
    type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form with times in seconds; ``seq`` is added by whoever sends it."""
        return {"type": self.type, **_wire_fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStarted(Event):
    """The session is open; echoes what is in force.

    Attributes:
        audio: encoding, sample_rate_hz and channels the server will decode.
        options: every option with its value in force.
        glossary_version: counts up from 1 with each edit.
        glossary_terms: number of terms in force.
        rejected: (entry, reason) of glossary entries that were not taken.
        resume_token: secret with which another connection can go on with the session; empty when
            it can not be resumed. Told to the client alone.
        resume_window_s: how long the session waits for that.
    """

    type: ClassVar[str] = "session.started"
    session_id: str
    audio: Mapping[str, Any]
    language: str
    task: str
    options: Mapping[str, Any]
    glossary_version: int = 1
    glossary_terms: int = 0
    rejected: Rejections = ()
    resume_token: str = field(default="", repr=False)
    resume_window_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """See ``Event.to_dict``; the glossary's fields are grouped, and those of a resume."""
        resume = {"token": self.resume_token, "window_s": self.resume_window_s}
        return {
            "type": self.type,
            "session_id": self.session_id,
            "protocol": PROTOCOL_VERSION,
            **({"resume": resume} if self.resume_token else {}),
            "audio": dict(self.audio),
            "language": self.language,
            "task": self.task,
            "options": dict(self.options),
            "glossary": {
                "version": self.glossary_version,
                "terms": self.glossary_terms,
                **_rejections(self.rejected),
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionResumed(Event):
    """A new connection goes on with the session; what was missed follows.

    Attributes:
        next_frame: the audio frame (at the client's rate) to go on with.
        skipped_frames: frames that were lost and count as silence.
        edits: glossary edits that have arrived; later ones are to be sent again.
        flushes: the same of flushes.
    """

    type: ClassVar[str] = "session.resumed"
    session_id: str
    next_frame: int
    skipped_frames: int = 0
    edits: int = 0
    flushes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStarted(Event):
    """Someone began to speak at ``time_sample``; a segment is open."""

    type: ClassVar[str] = "speech.started"
    segment_id: int
    time_sample: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechStopped(Event):
    """The segment's last speech ended at ``time_sample``; its final follows if it has text."""

    type: ClassVar[str] = "speech.stopped"
    segment_id: int
    time_sample: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Partial(Event):
    """What the open segment says so far; replaces the segment's previous partial.

    Attributes:
        revision: counts up from 1 within the segment.
        end_sample: index up to which audio was heard.
        committed: text that will not change any more.
        volatile: text behind it that may still change; the two are joined as they are.
        words: the words of both, with times.
        language: language of the text.
        source: of a translation, what was said, where that was asked for.
    """

    type: ClassVar[str] = "partial"
    segment_id: int
    revision: int
    start_sample: int
    end_sample: int
    committed: str
    volatile: str
    terms: tuple[TermHit, ...] = ()
    words: tuple[Word, ...] = field(default=(), metadata=INTERNAL)
    language: str = field(default="", metadata=INTERNAL)
    source: Source | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Final(Event):
    """The segment's caption, once and for all; its revision is one more than the last partial's.

    Attributes:
        speech_end_sample: behind its last speech.
        source: of a translation, what was said, where that was asked for.
    """

    type: ClassVar[str] = "final"
    segment_id: int
    revision: int
    start_sample: int
    end_sample: int
    text: str
    language: str
    reason: EndReason
    words: tuple[Word, ...] = ()
    terms: tuple[TermHit, ...] = ()
    speech_end_sample: int = field(default=0, metadata=INTERNAL)
    source: Source | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class GlossaryUpdated(Event):
    """A glossary edit is in force for all speech from ``audio_time_sample`` on."""

    type: ClassVar[str] = "glossary.updated"
    version: int
    terms: int
    added: int
    removed: int
    audio_time_sample: int
    rejected: Rejections = ()

    def to_dict(self) -> dict[str, Any]:
        """See ``Event.to_dict``; rejections are listed up to ``MAX_LISTED_REJECTIONS``."""
        return {"type": self.type, **_wire_fields(self), **_rejections(self.rejected)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Flushed(Event):
    """Everything said before the ``flush`` has its final."""

    type: ClassVar[str] = "flushed"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded(Event):
    """The last event of a session that ended in good order."""

    type: ClassVar[str] = "session.ended"
    audio_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats(Event):
    """How the session is doing.

    Attributes:
        audio_samples: audio received.
        lag_samples: audio received but not yet covered by a finished step.
        timings_ms: wall time of the latest step by stage.
        sessions: sessions open on the server.
    """

    type: ClassVar[str] = "stats"
    audio_samples: int
    lag_samples: int
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    sessions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """See ``Event.to_dict``."""
        timings = {stage: round(value, 1) for stage, value in self.timings_ms.items()}
        return {"type": self.type, **_wire_fields(self), "timings_ms": timings}


@dataclass(frozen=True, kw_only=True, slots=True)
class Error(Event):
    """Something went wrong; after a fatal error the connection is closed.

    Attributes:
        code: wire code, see the table in streaming/errors.py.
        message: one line a user can act on.
        fatal: whether the session ends with it.
        retry_after_s: when to try again, only with code ``full``.
        segment_id: the segment that it cost its rest, if it is about one.
    """

    type: ClassVar[str] = "error"
    code: str
    message: str
    fatal: bool
    retry_after_s: float | None = field(default=None, metadata=OPTIONAL)
    segment_id: int | None = field(default=None, metadata=INTERNAL)
