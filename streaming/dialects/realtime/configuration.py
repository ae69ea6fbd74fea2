"""What a client has asked for: how a session starts, and how it is told to be in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from streaming.audio.pcm import AudioFormat, Encoding
from streaming.commands import GlossaryChoice, Start, StreamOptions
from streaming.dialects.realtime.prompt import terms_of
from streaming.dialects.realtime.refusals import Refused
from streaming.segmenter import SegmenterConfig
from streaming.vad import DEFAULT_DETECTOR

LOGPROBS = "item.input_audio_transcription.logprobs"
DEFAULT_MODEL = "a2p-live"
PCM_RATE_HZ = 24_000  # of clients that do not say
AUTO_LANGUAGE = "auto"

GA_FORMATS: dict[str, Encoding] = {
    "audio/pcm": "pcm_s16le",
    "audio/pcmu": "mulaw",
    "audio/pcma": "alaw",
}
LEGACY_FORMATS: dict[str, Encoding] = {
    "pcm16": "pcm_s16le",
    "g711_ulaw": "mulaw",
    "g711_alaw": "alaw",
}
# How long a pause may be: the more eager, the shorter. "auto" is "medium", as the reference has it.
EAGERNESS_MS = {"low": 1500, "medium": 800, "high": 400, "auto": 800}
# How often the hypothesis is renewed: text is told once two in a row agree on it.
DELAYS_MS = {"minimal": 250, "low": 500, "medium": 750, "high": 1000, "xhigh": 2000}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnDetection:
    """How the server finds the end of a turn; ``silence_ms`` is in force for both kinds."""

    kind: str = "server_vad"
    silence_ms: int = 500
    eagerness: str = "auto"

    def to_dict(self) -> dict[str, Any]:
        """As it is in force; what a client asked for besides is not offered."""
        if self.kind == "semantic_vad":
            return {
                "type": self.kind,
                "eagerness": self.eagerness,
                "silence_duration_ms": self.silence_ms,
            }
        segmenter = SegmenterConfig()
        return {
            "type": self.kind,
            "threshold": segmenter.threshold,
            "prefix_padding_ms": round(segmenter.pre_roll_s * 1000),
            "silence_duration_ms": self.silence_ms,
        }


class Paths(NamedTuple):
    """Where a client's message has what can not change any more once there is audio."""

    format: str
    transcription: str
    turn_detection: str


GA_PATHS = Paths(
    "session.audio.input.format",
    "session.audio.input.transcription",
    "session.audio.input.turn_detection",
)
LEGACY_PATHS = Paths(
    "session.input_audio_format",
    "session.input_audio_transcription",
    "session.turn_detection",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What a client has asked for so far.

    Attributes:
        model: told as it was asked for; there is one model.
        language: None has it detected.
        prompt: see ``prompt.terms_of``.
        glossary_id: a glossary of the server.
        default_glossary: the client has not said which, so the server's default applies.
        turns: None leaves the ends of turns to the client's commits.
        delay: one of ``DELAYS_MS``.
        logprobs: whether transcripts carry the probabilities of their words.
        vad: voice detector.
    """

    model: str = DEFAULT_MODEL
    language: str | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    glossary_id: str | None = None
    default_glossary: bool = True
    audio: AudioFormat = field(default_factory=lambda: AudioFormat(sample_rate_hz=PCM_RATE_HZ))
    turns: TurnDetection | None = field(default_factory=TurnDetection)
    delay: str | None = None
    logprobs: bool = False
    vad: str = DEFAULT_DETECTOR

    @property
    def terms(self) -> tuple[str, ...]:
        """Keywords and what the prompt names, without repeats."""
        return tuple(dict.fromkeys([*self.keywords, *terms_of(self.prompt or "")]))

    def start(self) -> Start:
        """The command that begins such a session."""
        options = StreamOptions(vad=self.vad, stats_interval_ms=0)
        if self.turns is not None:
            options = replace(options, endpoint_ms=self.turns.silence_ms)
        if self.delay is not None:
            options = replace(options, partial_interval_ms=DELAYS_MS[self.delay])
        glossary = GlossaryChoice(
            name=self.glossary_id, entries=self.terms, default=self.default_glossary
        )
        return Start(
            audio=self.audio,
            language=self.language or AUTO_LANGUAGE,
            glossary=glossary,
            options=options,
        )

    def updated_after_start(self, new: Configuration, paths: Paths) -> Configuration:
        """The update, as far as a session can take it that has heard audio.

        How long pauses and delays are stays as it is, and is told so.

        Raises:
            Refused: the update changes what can not change any more.
        """
        fixed = {
            paths.format: self.audio == new.audio,
            paths.transcription + ".language": self.language == new.language,
            paths.transcription + ".glossary_id": (self.glossary_id, self.default_glossary)
            == (new.glossary_id, new.default_glossary),
            paths.turn_detection: (self.turns is None) == (new.turns is None),
        }
        for param, same in fixed.items():
            if not same:
                raise Refused(
                    f"{param} can not change once audio was appended; open another connection",
                    code="cannot_update_after_audio",
                    param=param,
                )
        return replace(new, turns=self.turns, delay=self.delay)

    def to_ga(self, session_id: str) -> dict[str, Any]:
        """The session object of ``session.created`` and ``session.updated``."""
        format_name = _name_of(GA_FORMATS, self.audio.encoding)
        rate = {"rate": self.audio.sample_rate_hz} if format_name == "audio/pcm" else {}
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "audio": {
                "input": {
                    "format": {"type": format_name, **rate},
                    "noise_reduction": None,
                    "transcription": self._transcription(),
                    "turn_detection": self.turns.to_dict() if self.turns else None,
                }
            },
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def to_legacy(self, session_id: str) -> dict[str, Any]:
        """The flat session object of ``transcription_session.created`` and ``.updated``."""
        return {
            "object": "realtime.transcription_session",
            "id": session_id,
            "input_audio_format": _name_of(LEGACY_FORMATS, self.audio.encoding),
            "input_audio_noise_reduction": None,
            "input_audio_transcription": self._transcription(),
            "turn_detection": self.turns.to_dict() if self.turns else None,
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def _transcription(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "model": self.model,
            "language": self.language,
            "prompt": self.prompt,
            "keywords": list(self.keywords),
        }
        if self.delay is not None:
            record["delay"] = self.delay
        if not self.default_glossary:
            record["glossary_id"] = self.glossary_id
        return record


def _name_of(formats: Mapping[str, Encoding], encoding: Encoding) -> str:
    return next(name for name, known in formats.items() if known == encoding)
