"""What a server answers, whatever its interface, and the words of it."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from a2p_engine.speech_llm.base import TimedWord
from a2p_engine.speech_llm.words import split_words, spread_words
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

Token = tuple[bytes, float]  # its text and its probability
# Nobody says as many characters; what is longer is a model that repeats itself.
CHARACTERS_PER_S = 30
SPARE_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A word or a segment with its time, as a server tells them.

    Attributes:
        text: as it stands in the answer's text, but for spaces.
        start_s: in the audio that was sent.
        end_s: likewise.
        probability: None where the server tells none.
    """

    text: str
    start_s: float
    end_s: float
    probability: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        tokens: the text in pieces.
        spans: times of its words, else of its segments, else none.
        continues: whether the text goes on from the committed one instead of beginning with it.
    """

    tokens: tuple[Token, ...]
    spans: tuple[Span, ...] = ()
    continues: bool = False


def tokens_of(text: str, logprobs: Sequence[tuple[bytes, float]]) -> tuple[Token, ...]:
    """Tokens with probabilities; a single one where the log-probabilities are not of this text.

    Args:
        text: of the answer.
        logprobs: text and log-probability of each token; empty where the server tells none.
    """
    tokens = [(piece, math.exp(min(logprob, 0.0))) for piece, logprob in logprobs]
    if tokens and b"".join(piece for piece, _ in tokens) == text.encode():
        return tuple(tokens)
    return ((text.encode(), 1.0),) if text else ()


def text_of(tokens: Sequence[Token]) -> str:
    """The tokens' text; half a character is left out."""
    return b"".join(piece for piece, _ in tokens).decode(errors="ignore")


def after(tokens: Sequence[Token], marker: str) -> tuple[Token, ...]:
    """The tokens behind a marker, if it is there."""
    rest = b"".join(piece for piece, _ in tokens).rpartition(marker.encode())[2]
    kept: list[Token] = []
    for piece, probability in reversed(tokens):
        if not rest:
            break
        kept.insert(0, (piece[-len(rest) :], probability))
        rest = rest[: -len(piece)]
    return tuple(kept)


def timed_words(
    tokens: Sequence[Token], spans: Sequence[Span], samples: Samples
) -> tuple[TimedWord, ...]:
    """The words of an answer; without spans their times are estimates.

    Args:
        tokens: the text in pieces.
        spans: what the server tells of times, empty for nothing.
        samples: float32 [n], the audio.
    """
    written = list(tokens)
    while written and not written[-1][0].strip():
        written.pop()
    if not written:
        return ()
    written[-1] = (written[-1][0].rstrip(), written[-1][1])
    words = split_words(
        range(len(written)),
        [probability for _, probability in written],
        lambda ids: b"".join(written[at][0] for at in ids).decode(errors="replace"),
    )
    return _within(words, spans, len(samples)) or spread_words(words, samples)


def _within(
    words: Sequence[tuple[str, float]], spans: Sequence[Span], samples: int
) -> tuple[TimedWord, ...]:
    """Words in the times of the spans that hold their letters; none if letters differ."""
    said = "".join(map(_letters, (text for text, _ in words)))
    if not said or said != "".join(_letters(span.text) for span in spans):
        return ()
    edges = np.cumsum([0, *(len(_letters(span.text)) for span in spans)])
    found: list[TimedWord] = []
    at = 0
    for text, probability in words:
        first, last = min(at, len(said) - 1), max(at, at + len(_letters(text)) - 1)
        holder = spans[int(np.searchsorted(edges, first, "right")) - 1]
        found.append(
            TimedWord(
                text=text,
                start_sample=_sample(_moment(spans, edges, first, 0), samples),
                end_sample=_sample(_moment(spans, edges, min(last, len(said) - 1), 1), samples),
                probability=probability if holder.probability is None else holder.probability,
            )
        )
        at = last + 1 if _letters(text) else at
    return tuple(found)


def _moment(spans: Sequence[Span], edges: npt.NDArray[np.int64], letter: int, side: int) -> float:
    """Where a letter begins (side 0) or ends (1), in seconds."""
    at = int(np.searchsorted(edges, letter, "right")) - 1
    span, size = spans[at], int(edges[at + 1] - edges[at])
    return span.start_s + (span.end_s - span.start_s) * (letter - int(edges[at]) + side) / size


def _sample(moment_s: float, samples: int) -> int:
    return min(max(0, round(moment_s * SAMPLE_RATE_HZ)), samples)


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def wav(samples: Samples) -> bytes:
    """Samples as a WAV file of 16-bit PCM."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return data.getvalue()


def most_characters(samples: Samples) -> int:
    """Longest text worth reading."""
    return int(CHARACTERS_PER_S * len(samples) / SAMPLE_RATE_HZ) + SPARE_CHARACTERS
