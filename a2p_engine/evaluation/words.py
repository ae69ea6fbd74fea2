"""Word errors as the field counts them, those in glossary terms apart: WER, B-WER and U-WER.

Both sides go through Whisper's English text normaliser, so that "Mr." and "mister" or "21" and
"twenty one" are no errors. Apostrophes within words are dropped before: the normaliser would make
"Walker's" two words and "5 o'clock" "50 clock". Nor is the point a word that it leaves of three. No
British spelling is made American.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Words = tuple[str, ...]
Step = tuple[int | None, int | None]  # places in reference and hypothesis, None where it has none

# What the scorer of fbai-speech (is21_deep_bias) charges while it aligns.
_SUBSTITUTION = 4
_GAP = 3
_APOSTROPHE = re.compile(r"(?<=\w)['\N{RIGHT SINGLE QUOTATION MARK}](?=\w)")


def normalised(text: str) -> Words:
    """The words that are compared."""
    words = _normaliser()(_APOSTROPHE.sub("", text)).split()
    return tuple(word for word in words if any(map(str.isalnum, word)))


@lru_cache(maxsize=1)
def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Step]:
    """Cheapest alignment, a substitution at 4, an insertion or deletion at 3.

    Where several are cheapest, going back from the end, a pair is taken before an insertion, and
    that before a deletion.
    """
    costs = _costs(reference, hypothesis)
    steps: list[Step] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        if (
            i
            and j
            and costs[i][j] == costs[i - 1][j - 1] + _pair(reference[i - 1], hypothesis[j - 1])
        ):
            i, j = i - 1, j - 1
            steps.append((i, j))
        elif j and costs[i][j] == costs[i][j - 1] + _GAP:
            j -= 1
            steps.append((None, j))
        else:
            i -= 1
            steps.append((i, None))
    return steps[::-1]


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    rows = [[_GAP * j for j in range(len(hypothesis) + 1)]]
    for said in reference:
        above = rows[-1]
        row = [above[0] + _GAP]
        for j, written in enumerate(hypothesis):
            row.append(min(above[j] + _pair(said, written), row[j] + _GAP, above[j + 1] + _GAP))
        rows.append(row)
    return rows


def _pair(said: str, written: str) -> int:
    return 0 if said == written else _SUBSTITUTION


@dataclass(frozen=True, slots=True)
class ErrorSplit:
    """Errors and reference words in the utterance's terms (biased), and in all else.

    The split is that of Le et al. 2021 (arXiv 2104.02194): a reference word of one of the
    utterance's own terms is biased; an inserted word is if it is such a word. A distractor that was
    written is therefore charged to the others; it is counted apart as a false insertion.
    """

    biased_errors: int = 0
    biased_words: int = 0
    other_errors: int = 0
    other_words: int = 0

    @property
    def errors(self) -> int:
        """All errors."""
        return self.biased_errors + self.other_errors

    @property
    def words(self) -> int:
        """All reference words."""
        return self.biased_words + self.other_words


def split_errors(reference: Words, hypothesis: Words, terms: Iterable[Words]) -> ErrorSplit:
    """Count errors.

    Args:
        reference: normalised words that were said.
        hypothesis: normalised words that were written.
        terms: the normalised terms that were said.
    """
    terms = list(terms)
    biased = _places(reference, terms)
    vocabulary = {word for term in terms for word in term}
    counts = [0, 0, 0, 0]
    for said, written in align(reference, hypothesis):
        if said is not None:
            other = said not in biased
            wrong = written is None or reference[said] != hypothesis[written]
            counts[2 * other + 1] += 1
        else:
            other = hypothesis[written or 0] not in vocabulary
            wrong = True
        counts[2 * other] += wrong
    return ErrorSplit(*counts)


def _places(words: Words, terms: Iterable[Words]) -> set[int]:
    """Places of words that belong to an occurrence of a term."""
    return {
        place
        for term in terms
        if term
        for start in range(len(words) - len(term) + 1)
        if words[start : start + len(term)] == term
        for place in range(start, start + len(term))
    }


class TermFinder:
    """Finds the terms of a glossary of any size in normalised words."""

    def __init__(self, terms: Iterable[str]) -> None:
        """Normalise the terms; those that become nothing are never found."""
        self._terms = {words for words in map(normalised, terms) if words}
        self._lengths = sorted({len(words) for words in self._terms})

    def find(self, words: Words) -> set[Words]:
        """Terms that occur, as whole words."""
        return {
            run
            for length in self._lengths
            for start in range(len(words) - length + 1)
            if (run := words[start : start + length]) in self._terms
        }
