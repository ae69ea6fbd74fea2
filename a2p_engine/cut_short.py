"""Goes on where the speech LLM stopped writing before its audio ended.

A model may take the first sentence for all there is, or a term that it was told. How much was said
the phoneme head knows: a text that accounts for less than half of it is gone on with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Protocol

from a2p_engine.loops import without_loop
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm.base import Hypothesis
from a2p_engine.text import shared_words

log = logging.getLogger(__name__)

# Of the texts of 854 development recordings those that accounted for less had all lost words.
LEAST_SHARE = 0.5
FEW_PHONEMES = 10  # less is not worth another decoding: about a second of speech
CREDIBLE = 0.5  # mean probability of the words that are added


class Decode(Protocol):
    """Writes a segment down with the given terms in its prompt."""

    def __call__(self, terms: Sequence[Candidate], /, *, beginning: str = "") -> Hypothesis:
        """Decode; ``beginning`` is text to go on from."""
        ...


class Count(Protocol):
    """Counts phonemes, word boundaries among them."""

    def heard(self) -> int:
        """In the audio of the segment."""
        ...

    def said(self, hypothesis: Hypothesis) -> int | None:
        """In a text, if it is read aloud; None where nobody can tell."""
        ...


def completed(decode: Decode, terms: Sequence[Candidate], count: Count | None) -> Hypothesis:
    """Decode, without loops, and to the end of what was said.

    What is added stays if the model is sure of it. Else the text without terms takes its place, if
    that goes further.

    Args:
        decode: writes the segment.
        terms: to tell the model.
        count: knows how much was said; without it, nothing is missed.
    """
    first = _unlooped(decode(terms))
    if count is None or not first.words or not _is_cut_short(first, count):
        return first
    longer = _unlooped(decode(terms, beginning=first.text))
    added = longer.words[shared_words([word.text for word in longer.words], first.text) :]
    sure = mean(word.probability for word in added) if added else 0.0
    if sure >= CREDIBLE and not _is_cut_short(longer, count):
        log.info("gone on with: the text ended before the speech")
        return longer
    if terms and not _is_cut_short(untold := _unlooped(decode([])), count):
        log.info("decoded again: told of terms, the text ended before the speech")
        return untold
    return first


def _unlooped(hypothesis: Hypothesis) -> Hypothesis:
    # First of all: a term in a loop has no sound there, but it has where it was said.
    return replace(hypothesis, words=without_loop(hypothesis.words))


def _is_cut_short(hypothesis: Hypothesis, count: Count) -> bool:
    heard = count.heard()
    least = min(LEAST_SHARE * heard, heard - FEW_PHONEMES)
    if sum(char.isalnum() for char in hypothesis.text) >= least:  # English has as many letters
        return False
    said = count.said(hypothesis)
    return said is not None and said < least
