"""Captions of a recording as OpenAI answers, and errors as its errors look."""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from a2p_engine.errors import A2PError, InputError
from a2p_engine.types import SAMPLE_RATE_HZ, TermHit, Word
from streaming.errors import (
    Forbidden,
    RateLimited,
    ServerFull,
    ShuttingDown,
    Unauthorised,
    answer_to,
)
from streaming.events import Final, seconds
from streaming.uploads.captioning import Progress
from streaming.uploads.form import Form, Format, RequestRefused
from streaming.uploads.subtitles import to_srt, to_vtt

UNKNOWN_LANGUAGE = "unknown"
WHISPER_FRAME_SAMPLES = SAMPLE_RATE_HZ // 100  # ``seek`` counts these
LEAST_PROBABILITY = 1e-4
STATUS: dict[type[Exception], tuple[int, str]] = {
    Unauthorised: (401, "invalid_request_error"),
    Forbidden: (403, "invalid_request_error"),
    RateLimited: (429, "rate_limit_error"),
    ServerFull: (503, "server_error"),
    ShuttingDown: (503, "server_error"),
    InputError: (400, "invalid_request_error"),
    Exception: (500, "server_error"),
}
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """A recording's captions and what was asked for.

    Attributes:
        task: ``transcribe`` or ``translate``.
        form: the request.
        progress: what has become of it.
    """

    task: str
    form: Form
    progress: Progress


def render(transcript: Transcript) -> str:
    """The body of the answer, in the format that was asked for."""
    return RENDERERS[transcript.form.response_format](transcript)


def text_of(finals: Sequence[Final]) -> str:
    """The whole text, spaced as its language is."""
    return "".join(map(spaced, finals)).strip()


def spaced(final: Final) -> str:
    """A final's text with the space in front of it, if its language has any."""
    spaces = not final.words or final.words[0].text.startswith(" ")
    return f" {final.text}" if spaces else final.text


def _json(transcript: Transcript) -> str:
    progress = transcript.progress
    return _dump(
        {
            "text": text_of(progress.finals),
            "languages": [{"code": code} for code in _languages(progress.finals)],
            "usage": _usage(progress),
        }
    )


def _verbose_json(transcript: Transcript) -> str:
    progress, words = transcript.progress, transcript.form.words
    finals = progress.finals
    body = {
        "task": transcript.task,
        "language": next(iter(_languages(finals)), _asked_language(transcript)),
        "duration": progress.duration_s,
        "text": text_of(finals),
        "segments": [_segment(number, final, words) for number, final in enumerate(finals)],
        "usage": _usage(progress),
    }
    if words:
        every = [word for final in finals for word in final.words]
        body["words"] = [_word(word, word.text.strip()) for word in every]
    if progress.rejected:
        body["rejected_terms"] = [
            {"entry": entry, "reason": reason} for entry, reason in progress.rejected
        ]
    return _dump(body)


RENDERERS: dict[Format, Callable[[Transcript], str]] = {
    "json": _json,
    "verbose_json": _verbose_json,
    "text": lambda transcript: text_of(transcript.progress.finals) + "\n",
    "srt": lambda transcript: to_srt(transcript.progress.finals),
    "vtt": lambda transcript: to_vtt(transcript.progress.finals),
}


def _segment(number: int, final: Final, words: bool) -> dict[str, Any]:
    text = spaced(final)
    segment = {
        "id": number,
        "seek": final.start_sample // WHISPER_FRAME_SAMPLES,
        "start": seconds(final.start_sample),
        "end": seconds(final.end_sample),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(_average_logprob(final), 4),
        "compression_ratio": round(_compression_ratio(text), 4),
        "no_speech_prob": 0.0,  # what holds no speech makes no segment
        "terms": [_term(hit) for hit in final.terms],
    }
    if words:  # with their spaces, as those who join them expect it of segments
        segment["words"] = [_word(word, word.text) for word in final.words]
    return segment


def _average_logprob(final: Final) -> float:
    """Mean of the words' log-probabilities.

    A word's probability is that of a model that was told no terms, to which a rare name is always
    improbable. Clients drop segments with low values, so a word of a term that was written counts
    with the probability that the term was said.
    """
    said = {
        part: hit.probability
        for hit in final.terms
        if hit.used
        for part in hit.term.casefold().split()
    }
    probabilities = [
        max(word.probability, said.get(word.text.strip(" .,;:?!").casefold(), 0.0))
        for word in final.words
    ]
    if not probabilities:
        return 0.0
    return sum(math.log(max(value, LEAST_PROBABILITY)) for value in probabilities) / len(
        probabilities
    )


def _compression_ratio(text: str) -> float:
    """How well the text can be packed, as Whisper's authors measure repetition."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _term(hit: TermHit) -> dict[str, Any]:
    return {
        "term": hit.term,
        "probability": round(hit.probability, 4),
        "start": None if hit.start_sample is None else seconds(hit.start_sample),
        "end": None if hit.end_sample is None else seconds(hit.end_sample),
        "used": hit.used,
    }


def _word(word: Word, text: str) -> dict[str, Any]:
    return {
        "word": text,
        "start": seconds(word.start_sample),
        "end": seconds(word.end_sample),
        "probability": round(word.probability, 4),
    }


def _languages(finals: Sequence[Final]) -> list[str]:
    """Codes of the languages that were heard, the one of most of the audio first."""
    heard: Counter[str] = Counter()
    for final in finals:
        heard[final.language] += final.end_sample - final.start_sample
    return [language for language, _ in heard.most_common()]


def _asked_language(transcript: Transcript) -> str:
    asked = transcript.form.language
    return UNKNOWN_LANGUAGE if asked == "auto" else asked


def _usage(progress: Progress) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(progress.duration_s)}


# Streams (server-sent events)


def delta_event(final: Final, *, first: bool) -> str:
    """One more segment's text."""
    text = spaced(final)
    return _event({"type": "transcript.text.delta", "delta": text.lstrip() if first else text})


def done_event(transcript: Transcript) -> str:
    """The whole text, at the end."""
    finals = transcript.progress.finals
    languages = [{"code": code} for code in _languages(finals)]
    return _event({"type": "transcript.text.done", "text": text_of(finals), "languages": languages})


def error_event(error: Exception) -> str:
    """An error after the beginning of a stream."""
    return _event(error_body(error))


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {_dump(body)}\n\n"


# Errors


def error_body(error: Exception) -> dict[str, Any]:
    """What an error looks like; the text of one that was not raised on purpose stays in the log."""
    refused = error if isinstance(error, RequestRefused) else None
    expected = isinstance(error, A2PError)
    return {
        "error": {
            "message": str(error) if expected else "internal error; the server's log says more",
            "type": _answer(error)[1],
            "param": refused.param if refused else None,
            "code": (refused and refused.code) or _code(error),
        }
    }


def error_status(error: Exception) -> int:
    """The status of the response."""
    return error.status if isinstance(error, RequestRefused) else _answer(error)[0]


def _code(error: Exception) -> str:
    return "invalid_api_key" if isinstance(error, Unauthorised) else answer_to(error).code


def _answer(error: Exception) -> tuple[int, str]:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _dump(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False)
