"""Tokens to words, and times for words of models that give none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from a2p_engine.speech_llm.base import TimedWord
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, Han. Each character is a word,
# as Whisper counts them.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"\s*[{_UNSPACED}]|\s*[^\s{_UNSPACED}]+|\s+")
_UNSPACED_WORD = re.compile(rf"\s*[{_UNSPACED}]")
# Half a character: more bytes of it are in the next token.
_PARTIAL = "\ufffd"
# What is 40 dB below the loudest moment is not speech.
_QUIET = 0.01
_MOMENT_SAMPLES = SAMPLE_RATE_HZ // 50


def split_words(
    tokens: Sequence[int],
    probabilities: Sequence[float],
    decode: Callable[[Sequence[int]], str],
) -> list[tuple[str, float]]:
    """Words of a byte-level tokeniser's tokens, each with the mean probability of its tokens.

    A word carries its leading space; punctuation belongs to the word before it. The words joined
    are the text.

    Args:
        tokens: without special tokens.
        probabilities: one per token.
        decode: token ids to text.
    """
    words: list[tuple[str, list[float]]] = []
    pending: list[int] = []
    heard: list[float] = []
    for number, (token, probability) in enumerate(zip(tokens, probabilities, strict=True), 1):
        pending.append(token)
        heard.append(probability)
        text = decode(pending)
        if text.endswith(_PARTIAL) and number < len(tokens):
            continue
        for piece in _PIECE.findall(text):
            if words and _continues(words[-1][0], piece):
                words[-1] = (words[-1][0] + piece, words[-1][1] + heard)
            else:
                words.append((piece, list(heard)))
        pending, heard = [], []
    return [(text, float(np.mean(parts))) for text, parts in words]


def _continues(word: str, piece: str) -> bool:
    """Whether a piece belongs to the word before it."""
    if piece[:1].isspace():
        return False
    if not word.strip() or not any(char.isalnum() for char in piece):
        return True
    if _UNSPACED_WORD.match(piece):
        return False
    # Letters after a character that is a word by itself begin another one.
    return not _UNSPACED_WORD.fullmatch(word.rstrip("".join(_punctuation(word))))


def _punctuation(word: str) -> list[str]:
    return [char for char in word if not char.isalnum() and not char.isspace()]


def spread_words(words: Sequence[tuple[str, float]], samples: Samples) -> tuple[TimedWord, ...]:
    """Give words times in proportion to their letters, from the first to the last sound.

    An estimate for models that tell no times: a long pause or a slow word shifts what follows.

    Args:
        words: texts and probabilities.
        samples: float32 [n], what they were heard in.
    """
    begin, end = speech_bounds(samples)
    letters = [max(1, sum(char.isalnum() for char in text)) for text, _ in words]
    edges = begin + np.cumsum([0, *letters]) * (end - begin) // max(1, sum(letters))
    return tuple(
        TimedWord(
            text=text,
            start_sample=int(edges[at]),
            end_sample=int(edges[at + 1]),
            probability=probability,
        )
        for at, (text, probability) in enumerate(words)
    )


def speech_bounds(samples: Samples) -> tuple[int, int]:
    """First sample of the first sound and the end of the last one; all of it where all is alike."""
    starts = np.arange(0, len(samples), _MOMENT_SAMPLES)
    if not len(starts):
        return 0, 0
    loudness = np.sqrt(np.add.reduceat(np.square(samples, dtype=np.float64), starts))
    loud = np.flatnonzero(loudness >= _QUIET * loudness.max())
    end = min((int(loud[-1]) + 1) * _MOMENT_SAMPLES, len(samples))
    return int(loud[0]) * _MOMENT_SAMPLES, end
