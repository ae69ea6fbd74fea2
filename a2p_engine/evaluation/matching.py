"""Baselines without a retriever: terms that a first transcript resembles, in letters or sounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process

from a2p_engine.retriever.phoneme_ctc import to_symbols
from a2p_engine.retriever.pronunciation import Pronouncer

FloatArray = npt.NDArray[np.float32]

LONGEST_RUN = 3  # words that a term may have been broken into
# Of 100. On 60 voiced sentences among 10,000 terms nothing that was said was less alike and among
# the ten best.
LEAST_LIKENESS = 80.0
_WORD = re.compile(r"\w+(?:'\w+)*")
_AT_ONCE = 8  # runs compared with all terms in one go, which bounds the memory

# A run of words to the forms that are compared, and a term to its own.
Forms = Callable[[Sequence[str]], list[str]]


class Matcher:
    """Ranks terms by how much some run of a text's words is like them.

    The likeness is rapidfuzz's ratio: 100 times one less the normalised distance by insertions and
    deletions.
    """

    def __init__(self, terms: Sequence[str], forms: Forms) -> None:
        """Work out the terms' forms.

        Args:
            terms: what to rank.
            forms: words to what is compared.
        """
        self._terms = terms
        self.forms = forms
        ways = [forms(_words(term)) for term in terms]
        self._candidates = [form for group in ways for form in group]
        self._owner = np.repeat(np.arange(len(terms)), [len(group) for group in ways])

    def ranked(self, text: str, count: int) -> list[tuple[float, str]]:
        """The most alike terms with their likeness, best first."""
        likeness = np.zeros(len(self._terms), np.float32)
        runs = list(dict.fromkeys(form for run in _runs(text) for form in self.forms(run)[:1]))
        for start in range(0, len(runs), _AT_ONCE):
            np.maximum.at(likeness, self._owner, self._compare(runs[start : start + _AT_ONCE]))
        best = np.argsort(-likeness, kind="stable")[:count]
        return [
            (float(likeness[place]), self._terms[place])
            for place in best
            if likeness[place] >= LEAST_LIKENESS
        ]

    def _compare(self, runs: Sequence[str]) -> FloatArray:
        """[forms] likeness to the run that is most like each."""
        table = process.cdist(runs, self._candidates, scorer=fuzz.ratio, dtype=np.float32)
        return np.asarray(table.max(axis=0), np.float32)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def _runs(text: str) -> Iterator[list[str]]:
    words = _words(text)
    for start in range(len(words)):
        for length in range(1, min(LONGEST_RUN, len(words) - start) + 1):
            yield words[start : start + length]


def by_spelling(words: Sequence[str]) -> list[str]:
    """Letters without spaces and apostrophes: "pound maker" is "poundmaker"."""
    return ["".join(words).replace("'", "")]


def by_sound(pronouncer: Pronouncer) -> Forms:
    """Phonemes without stress and spaces, of each reading of a single word."""

    def forms(words: Sequence[str]) -> list[str]:
        said = pronouncer.phonemes(words)
        if len(words) == 1:
            readings = said[words[0]]
        else:
            readings = ("".join(said[word][0] for word in words if said[word]),)
        return [sounds for reading in readings if (sounds := "".join(to_symbols(reading)))]

    return forms
