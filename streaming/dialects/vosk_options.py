"""What a client of Vosk's protocol may ask for, by its URL's query and by ``config`` messages."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from streaming.audio.pcm import AudioFormat
from streaming.commands import Entry, GlossaryChoice, Offer, Start, StreamOptions
from streaming.errors import BadOption
from streaming.vad import DEFAULT_DETECTOR, DETECTORS
from streaming.validation import JsonObject

SAMPLE_RATE_HZ = (8_000, 192_000)
MAX_ALTERNATIVES = 100
UNKNOWN_WORD = "[unk]"  # of Vosk's phrase lists: whatever is not on the list
SPELLED = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class VoskOptions:
    """The names are those of the protocol.

    Attributes:
        sample_rate: in Hz.
        language: of the speech, or ``auto``.
        glossary: name; None is the server's default.
        phrase_list: further glossary entries. Vosk recognises nothing but these phrases; here they
            become likely.
        vad: voice detector.
        words: whether results list their words.
        max_alternatives: 0 is the plain form of results, above it is a list, of one.
        times: whether replies tell when their speech began and ended.
    """

    sample_rate: int
    language: str = "en"
    glossary: str | None = None
    phrase_list: tuple[Entry, ...] = ()
    vad: str = DEFAULT_DETECTOR
    words: bool = True
    max_alternatives: int = 0
    times: bool = False

    def start(self) -> Start:
        """The session asked for."""
        glossary = GlossaryChoice(
            name=self.glossary, entries=self.phrase_list, default=self.glossary is None
        )
        return Start(
            audio=AudioFormat(sample_rate_hz=self.sample_rate),
            language=self.language,
            glossary=glossary,
            options=StreamOptions(vad=self.vad, stats_interval_ms=0),
        )

    def updated(self, given: Mapping[str, Any], offer: Offer) -> VoskOptions:
        """These options with what is given; keys that are unknown or say nothing are skipped.

        Raises:
            BadOption: a value is not offered.
        """
        known = [item.name for item in fields(self)]
        told = {key: given[key] for key in known if given.get(key) not in (None, "")}
        values = JsonObject(told, BadOption)
        return replace(self, **{key: _read(key, values, offer) for key in told})


def _read(key: str, values: JsonObject, offer: Offer) -> Any:
    match key:
        case "sample_rate":
            return _whole(values, key, *SAMPLE_RATE_HZ)
        case "max_alternatives":
            return _whole(values, key, 0, MAX_ALTERNATIVES)
        case "language":
            return _language(values, offer.languages)
        case "glossary":
            return _one_of(values, key, offer.glossaries)
        case "vad":
            return _one_of(values, key, DETECTORS)
        case "phrase_list":
            phrases = values.items(key, (str, dict), "a list of strings and objects")
            return tuple(phrase for phrase in phrases if phrase != UNKNOWN_WORD)
    return _flag(values, key)


def _whole(values: JsonObject, key: str, low: int, high: int) -> int:
    """A whole number, which clients write as 16000, 16000.0 or "16000"."""
    value = number = values.take(key)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
    real = type(number) in (int, float)
    if not real or not low <= number <= high or number != int(number):
        values.fail(key, value, f"a whole number from {low} to {high}")
    return int(number)


def _flag(values: JsonObject, key: str) -> bool:
    """True or false, which clients write as 1 and 0 too."""
    value = values.take(key)
    spelled = value.lower() if isinstance(value, str) else json.dumps(value)
    if spelled not in SPELLED:
        values.fail(key, value, ", ".join(SPELLED))
    return SPELLED[spelled]


def _one_of(values: JsonObject, key: str, accepted: Collection[str]) -> str:
    value = values.take(key)
    if value not in tuple(accepted):
        values.fail(key, value, ", ".join(accepted) or "none, the server has none")
    return str(value)


def _language(values: JsonObject, languages: Collection[str]) -> str:
    """A language that is offered; of a locale such as de-AT it is the first part."""
    value = values.take("language")
    short = value.replace("_", "-").partition("-")[0].lower() if isinstance(value, str) else ""
    if short not in languages:
        values.fail("language", value, ", ".join(languages))
    return short
