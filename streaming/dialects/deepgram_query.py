"""What a client of Deepgram's live interface asks for in the query of its URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from streaming.audio.pcm import AudioFormat, Encoding
from streaming.commands import Entry, GlossaryChoice, Offer, Start, StreamOptions
from streaming.dialects.base import Handshake
from streaming.dialects.native import ENDPOINT_MS
from streaming.errors import BadOption
from streaming.vad import DEFAULT_DETECTOR, DETECTORS
from streaming.validation import shown

ENCODINGS: dict[str, Encoding] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
    "opus": "opus",
    "ogg-opus": "container",
    "flac": "container",
    "speex": "container",
    "amr-nb": "container",
    "amr-wb": "container",
}
TELEPHONE_HZ = 8_000  # where G.711 comes from
WIDEBAND_HZ = 16_000
SAMPLE_RATE_HZ = (8_000, 192_000)
MAX_CHANNELS = 20
MULTILINGUAL = "multi"
SPELLED = {"true": True, "1": True, "false": False, "0": False}
MAX_UTTERANCE_END_MS = 60_000
AUDIO_CLOCK_MS = 250  # how often the session tells how far its audio is, where that matters
MAX_WEIGHT = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenOptions:
    """The names are those of the query, where it has one.

    Attributes:
        audio: what the binary messages hold.
        language: of the speech; ``auto`` finds it out.
        multilingual: whether results tell the language.
        keyterms: of ``keyterm``; a ``Configure`` replaces them.
        keywords: entries made of ``keywords``.
        glossary: of the server; None is its default.
        interim_results: whether results come before they are final.
        endpoint_ms: non-speech that ends a segment.
        endpointing: whether that is told as the end of speech.
        utterance_end_ms: gap behind the last word that is told; None is not.
        vad_events: whether the beginning of speech is told.
        punctuated: whether transcripts have case and punctuation.
        tags: come back with the metadata.
        extra: (name, value) that come back with the metadata.
        vad: voice detector.
    """

    audio: AudioFormat
    language: str = "en"
    multilingual: bool = False
    keyterms: tuple[str, ...] = ()
    keywords: tuple[Entry, ...] = ()
    glossary: str | None = None
    interim_results: bool = False
    endpoint_ms: int = StreamOptions().endpoint_ms
    endpointing: bool = True
    utterance_end_ms: int | None = None
    vad_events: bool = False
    punctuated: bool = True
    tags: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    vad: str = DEFAULT_DETECTOR

    def start(self) -> Start:
        """The session asked for."""
        return Start(
            audio=self.audio,
            language=self.language,
            glossary=GlossaryChoice(
                name=self.glossary,
                entries=(*self.keyterms, *self.keywords),
                default=self.glossary is None,
            ),
            options=StreamOptions(
                vad=self.vad,
                partials=self.interim_results,
                endpoint_ms=self.endpoint_ms,
                stats_interval_ms=AUDIO_CLOCK_MS if self.utterance_end_ms else 0,
            ),
        )


def read_query(handshake: Handshake, offer: Offer) -> ListenOptions:
    """The options of a query; names that are not known here are skipped.

    Raises:
        BadOption: a value cannot be read or is not offered.
    """
    query = _Query(handshake)
    endpointing, endpoint_ms = _endpointing(query)
    utterance_end_ms = query.whole("utterance_end_ms", None, 1, MAX_UTTERANCE_END_MS)
    if utterance_end_ms is not None:  # what is still open could not be told as ended
        endpoint_ms = min(endpoint_ms, max(utterance_end_ms, ENDPOINT_MS[0]))
    language = _language(query, offer)
    return ListenOptions(
        audio=_audio(query),
        language=language,
        multilingual=language == "auto",
        keyterms=tuple(dict.fromkeys(query.all("keyterm"))),
        keywords=tuple(entry for text in query.all("keywords") if (entry := _keyword(text))),
        glossary=query.one_of("glossary", None, tuple(offer.glossaries)),
        interim_results=query.flag("interim_results", False),
        endpoint_ms=endpoint_ms,
        endpointing=endpointing,
        utterance_end_ms=utterance_end_ms,
        vad_events=query.flag("vad_events", False),
        punctuated=query.flag("punctuate", True) or query.flag("smart_format", False),
        tags=query.all("tag"),
        extra=tuple(_extra(text) for text in query.all("extra")),
        vad=query.one_of("vad", DEFAULT_DETECTOR, tuple(DETECTORS)) or DEFAULT_DETECTOR,
    )


class _Query:
    """Values by name; an empty one counts as not given."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for value in self._handshake.all(name) if value.strip())

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def fail(self, name: str, value: str, accepted: str) -> NoReturn:
        raise BadOption(f"{name} is {shown(value)}; accepted: {accepted}")

    def flag(self, name: str, default: bool) -> bool:
        """True or false, which old clients write as Python does."""
        value = self.first(name)
        if value is None:
            return default
        if value.lower() not in SPELLED:
            self.fail(name, value, ", ".join(SPELLED))
        return SPELLED[value.lower()]

    def whole(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number, also written as 16000.0."""
        value = self.first(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high or number != int(number):
            self.fail(name, value, f"a whole number from {low} to {high}")
        return int(number)

    def one_of(self, name: str, default: str | None, accepted: Sequence[str]) -> str | None:
        value = self.first(name)
        if value is not None and value not in accepted:
            self.fail(name, value, ", ".join(accepted) or "none, the server has none")
        return default if value is None else value


def _audio(query: _Query) -> AudioFormat:
    name = query.one_of("encoding", None, tuple(ENCODINGS))
    encoding = ENCODINGS[name] if name else "container"
    usual_hz = TELEPHONE_HZ if encoding in ("mulaw", "alaw") else WIDEBAND_HZ
    return AudioFormat(
        encoding=encoding,
        sample_rate_hz=query.whole("sample_rate", usual_hz, *SAMPLE_RATE_HZ) or usual_hz,
        channels=query.whole("channels", 1, 1, MAX_CHANNELS) or 1,
    )


def _endpointing(query: _Query) -> tuple[bool, int]:
    """Whether ends of speech are told, and after how many ms of silence, as far as possible."""
    value = query.first("endpointing")
    if value is None or value.lower() == "true":
        return True, StreamOptions().endpoint_ms
    if value.lower() == "false":
        return False, ENDPOINT_MS[1]
    if not value.isascii() or not value.isdigit():
        query.fail("endpointing", value, "a number of milliseconds, true, false")
    return True, int(min(max(float(value), ENDPOINT_MS[0]), ENDPOINT_MS[1]))


def _language(query: _Query, offer: Offer) -> str:
    """A language that is offered; of a locale such as en-US it is the first part."""
    if query.flag("detect_language", False):
        return "auto"
    value = query.first("language") or "en"
    if value.lower() == MULTILINGUAL:
        return "auto"
    short = value.replace("_", "-").partition("-")[0].lower()
    if short not in offer.languages:
        query.fail("language", value, ", ".join((MULTILINGUAL, *offer.languages)))
    return short


def _keyword(text: str) -> Entry | None:
    """The entry of ``term`` or ``term:intensifier``; None for one that is to be suppressed.

    An intensifier is an exponent: here it doubles the odds of a term with every step above 1, which
    is what a term without one has.
    """
    term, _, number = text.rpartition(":")
    try:
        intensifier = float(number)
    except ValueError:
        intensifier = math.nan
    if not term.strip() or math.isnan(intensifier):
        return text
    if intensifier <= 0:
        return None
    return {"term": term, "weight": min(2.0 ** (min(intensifier, 99.0) - 1), MAX_WEIGHT)}


def _extra(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name, value
