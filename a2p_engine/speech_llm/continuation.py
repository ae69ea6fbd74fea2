"""Text that goes on from committed text, of models that were told how it begins and of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from a2p_engine.speech_llm.base import TimedWord
from a2p_engine.speech_llm.words import split_words
from a2p_engine.text import letters


def joined(committed: str, continuation: str) -> str:
    """Both as one text; a server may have taken the space between them away."""
    if not committed or not continuation:
        return committed + continuation
    if continuation[0].isspace() or not (continuation[0].isalnum() and committed[-1].isalnum()):
        return committed + continuation
    words = split_words([0], [1.0], lambda _: committed[-1] + continuation[0])
    return committed + ("" if len(words) > 1 else " ") + continuation


def realigned(words: Sequence[TimedWord], committed: str) -> tuple[TimedWord, ...]:
    """A hypothesis made to begin with the committed text.

    The committed letters are aligned with the beginning of the hypothesis, wherever that ends; what
    follows it stays. They are spelled as they were committed, in the time of what they replace.

    Args:
        words: of a hypothesis that may contradict the committed text.
        committed: text that cannot change.
    """
    fixed = [text for text, _ in split_words([0], [1.0], lambda _: committed)] if committed else []
    if not fixed:
        return tuple(words)
    beginning = _covered(committed, [word.text for word in words])
    return (*_in_place_of(fixed, words[:beginning]), *_following(words[beginning:]))


def _covered(fixed: str, texts: Sequence[str]) -> int:
    """How many of the texts a fixed text stands for: fewest letters inserted and deleted."""
    heard = [letters(text) for text in texts]
    ends = np.cumsum([0, *map(len, heard)])
    codes = np.array([ord(char) for char in "".join(heard)], np.int64)
    places = np.arange(len(codes) + 1)
    cost = places
    for char in letters(fixed):
        deleted = cost + 1
        matched = np.where(codes == ord(char), cost[:-1], deleted[1:])
        best = np.minimum(deleted, np.append(deleted[0], matched))
        cost = np.minimum.accumulate(best - places) + places  # or anything inserted before
    return len(texts) - int(cost[ends][::-1].argmin())  # of equals the one that repeats nothing


def _in_place_of(fixed: Sequence[str], words: Sequence[TimedWord]) -> list[TimedWord]:
    if len(fixed) == len(words):
        return [replace(word, text=text) for text, word in zip(fixed, words, strict=True)]
    begin, end = (words[0].start_sample, words[-1].end_sample) if words else (0, 0)
    sure = float(np.mean([word.probability for word in words])) if words else 1.0
    letters = [max(1, sum(char.isalnum() for char in text)) for text in fixed]
    edges = begin + np.cumsum([0, *letters]) * (end - begin) // sum(letters)
    return [
        TimedWord(
            text=text,
            start_sample=int(edges[at]),
            end_sample=int(edges[at + 1]),
            probability=sure,
        )
        for at, text in enumerate(fixed)
    ]


def _following(words: Sequence[TimedWord]) -> list[TimedWord]:
    """With the space in front that the first word of a text does not have."""
    if not words:
        return []
    first = words[0]
    parts = split_words([0], [1.0], lambda _: "a" + first.text)
    spaced = first.text if len(parts) > 1 else f" {first.text}"
    return [replace(first, text=spaced), *words[1:]]
