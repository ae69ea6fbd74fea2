"""Reads what a client asks for: its address, updates of today, and the flat ones of the beta."""

from __future__ import annotations

from dataclasses import replace

from a2p_engine.types import SAMPLE_RATE_HZ
from streaming.audio.pcm import SAMPLE_RATES_HZ, AudioFormat
from streaming.commands import Offer
from streaming.dialects.base import Handshake
from streaming.dialects.realtime.configuration import (
    AUTO_LANGUAGE,
    DELAYS_MS,
    EAGERNESS_MS,
    GA_FORMATS,
    LEGACY_FORMATS,
    LOGPROBS,
    PCM_RATE_HZ,
    Configuration,
    TurnDetection,
)
from streaming.dialects.realtime.refusals import Fields, Refused
from streaming.errors import BadOption
from streaming.vad import DETECTORS

G711_RATE_HZ = 8_000
ENDPOINT_MS = (200, 5_000)  # what a session can be told
MAX_DURATION_MS = 3_600_000


def read_query(handshake: Handshake, offer: Offer) -> Configuration:
    """What the address asks for: a place for settings of clients that can not be told more.

    Raises:
        BadOption: a value is not offered.
    """
    names = ("model", "language", "glossary", "vad")
    values = {name: value for name in names if (value := handshake.first(name))}
    given, plain = Fields(values), Configuration()
    try:
        return replace(
            plain,
            model=given.take("model", plain.model),
            language=_language(given, plain, offer),
            glossary_id=given.choice("glossary", None, (None, *offer.glossaries)),
            default_glossary="glossary" not in values,
            vad=given.choice("vad", plain.vad, DETECTORS),
        )
    except Refused as error:
        raise BadOption(str(error)) from None


def read_ga(session: Fields, old: Configuration, offer: Offer) -> Configuration:
    """Apply a ``session.update``; what it leaves out stays as it was.

    Raises:
        Refused: a value is not offered, or unknown.
    """
    session.choice("type", "transcription", ("transcription",))
    new = _include(session, old)
    audio = session.section("audio")
    session.done()
    given = audio.section("input") if audio is not None else None
    if audio is not None:
        audio.done()
    if given is None:
        return new
    if "format" in given:
        new = replace(new, audio=_ga_format(given))
    new = _speech(given, new, offer, "noise_reduction", "transcription")
    given.done()
    return new


def read_legacy(session: Fields, old: Configuration, offer: Offer) -> Configuration:
    """Apply a ``transcription_session.update``; what it leaves out stays as it was.

    Raises:
        Refused: a value is not offered, or unknown.
    """
    new = _include(session, old)
    if "input_audio_format" in session:
        name = session.choice("input_audio_format", None, tuple(LEGACY_FORMATS))
        rate_hz = PCM_RATE_HZ if name == "pcm16" else G711_RATE_HZ
        new = replace(new, audio=AudioFormat(encoding=LEGACY_FORMATS[name], sample_rate_hz=rate_hz))
    names = ("input_audio_noise_reduction", "input_audio_transcription")
    new = _speech(session, new, offer, *names)
    session.take("modalities")  # text is what there is
    session.take("client_secret")
    session.done()
    return new


def _include(session: Fields, old: Configuration) -> Configuration:
    if "include" not in session:
        return old
    wanted = session.take("include")
    if wanted is not None and (
        not isinstance(wanted, list) or any(item != LOGPROBS for item in wanted)
    ):
        session.fail("include", wanted, f'null, or a list of "{LOGPROBS}"')
    return replace(old, logprobs=bool(wanted))


def _ga_format(given: Fields) -> AudioFormat:
    chosen = given.section("format")
    if chosen is None:
        return AudioFormat(sample_rate_hz=PCM_RATE_HZ)
    name = chosen.choice("type", "audio/pcm", tuple(GA_FORMATS))
    usual_hz = PCM_RATE_HZ if name == "audio/pcm" else G711_RATE_HZ
    rates_hz = SAMPLE_RATES_HZ if name == "audio/pcm" else (G711_RATE_HZ,)
    rate_hz = chosen.choice("rate", usual_hz, rates_hz)
    chosen.done()
    return AudioFormat(encoding=GA_FORMATS[name], sample_rate_hz=rate_hz)


def _speech(
    given: Fields, old: Configuration, offer: Offer, noise_reduction: str, transcription: str
) -> Configuration:
    """What GA and legacy sessions have in common, under the names they have for it."""
    _check_noise_reduction(given.section(noise_reduction))
    if transcription in given:
        old = _transcription(given.section(transcription), old, offer)
    if "turn_detection" in given:
        old = replace(old, turns=_turn_detection(given.section("turn_detection"), old.turns))
    return old


def _check_noise_reduction(given: Fields | None) -> None:
    """Take what clients send for all servers; this one's model was trained on noise."""
    if given is None:
        return
    given.choice("type", None, (None, "near_field", "far_field"))
    given.take("strength")
    given.done()


def _transcription(given: Fields | None, old: Configuration, offer: Offer) -> Configuration:
    if given is None:
        return replace(
            old,
            language=None,
            prompt=None,
            keywords=(),
            glossary_id=None,
            default_glossary=True,
            delay=None,
        )
    new = replace(
        old,
        model=given.text("model") or old.model,
        delay=given.choice("delay", old.delay, (None, *DELAYS_MS)),
        language=_language(given, old, offer),
    )
    if "prompt" in given:
        new = replace(new, prompt=given.text("prompt"))
    if "keywords" in given:
        new = replace(new, keywords=_strings(given, "keywords"))
    if "glossary_id" in given:
        name = given.choice("glossary_id", None, (None, *offer.glossaries))
        new = replace(new, glossary_id=name, default_glossary=False)
    given.done()
    return new


def _strings(given: Fields, key: str) -> tuple[str, ...]:
    value = given.take(key)
    if not isinstance(value, list | None) or any(not isinstance(item, str) for item in value or ()):
        given.fail(key, value, "a list of strings")
    return tuple(value or ())


def _language(given: Fields, old: Configuration, offer: Offer) -> str | None:
    """The language to hear; several possible ones have it detected."""
    language = old.language
    if "languages" in given:
        possible = _strings(given, "languages")
        known = [_offered(given, "languages", one, offer) for one in possible]
        language = known[0] if len(known) == 1 else None
    if "language" in given:
        one = given.text("language")
        language = _offered(given, "language", one, offer) if one else None
    return language


def _offered(given: Fields, key: str, language: str, offer: Offer) -> str | None:
    """The offered language that a BCP 47 tag such as ``en-US`` means."""
    code = language.replace("_", "-").split("-")[0].lower()
    if code not in offer.languages:
        given.fail(key, language, ", ".join(offer.languages))
    return None if code == AUTO_LANGUAGE else code


def _turn_detection(given: Fields | None, old: TurnDetection | None) -> TurnDetection | None:
    if given is None:
        return None
    kind = given.choice("type", "server_vad", ("server_vad", "semantic_vad"))
    same = old if old is not None and old.kind == kind else TurnDetection(kind=kind)
    for name in ("create_response", "interrupt_response"):  # there are no responses
        given.take(name)
    new = _semantic_vad(given, same) if kind == "semantic_vad" else _server_vad(given, same)
    given.done()
    return new


def _semantic_vad(given: Fields, old: TurnDetection) -> TurnDetection:
    eagerness = given.choice("eagerness", old.eagerness, (None, *EAGERNESS_MS)) or "auto"
    return replace(old, eagerness=eagerness, silence_ms=EAGERNESS_MS[eagerness])


def _server_vad(given: Fields, old: TurnDetection) -> TurnDetection:
    _probability(given, "threshold")
    for name in ("prefix_padding_ms", "idle_timeout_ms"):
        _milliseconds(given, name)
    silence_ms = _milliseconds(given, "silence_duration_ms")
    if silence_ms is None:
        return old
    low_ms, high_ms = ENDPOINT_MS
    return replace(old, silence_ms=min(max(silence_ms, low_ms), high_ms))


def _probability(given: Fields, key: str) -> None:
    value = given.take(key)
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= 1):
        given.fail(key, value, "a number from 0 to 1")


def _milliseconds(given: Fields, key: str) -> int | None:
    value = given.take(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_DURATION_MS:
        given.fail(key, value, f"an integer from 0 to {MAX_DURATION_MS}")
    return value


def read_vllm(message: Fields, old: Configuration) -> Configuration:
    """Apply a ``session.update`` of vLLM's protocol: 16 kHz, and the client says when to end.

    Raises:
        Refused: the model's name is none.
    """
    model = message.text("model")
    audio = AudioFormat(sample_rate_hz=SAMPLE_RATE_HZ)
    return replace(old, model=model or old.model, audio=audio, turns=None)
