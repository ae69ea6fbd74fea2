"""Glossaries of any size for tests: what is said in recordings among words that nobody says.

For one seed a larger glossary contains the smaller ones, so that figures over its size are paired
and the terms to be found stay the same.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, islice

import numpy as np

from a2p_engine.errors import InputError
from a2p_engine.manifest import Recording
from a2p_engine.text import plain

_CONTEXT = 3  # letters that decide the next one
_LETTERS = range(4, 15)  # length of a made-up word
_PATIENCE = 1000  # words refused in a row
_LONGEST_PHRASE = 12  # words; a longer one is not taken for said
_END = "\n"


def spoken_terms(recordings: Iterable[Recording]) -> list[str]:
    """The terms of all recordings, each once, whatever its case; sorted."""
    found = {plain(term): term for recording in recordings for term in recording.terms}
    return sorted(found.values())


def said_words(recordings: Iterable[Recording]) -> frozenset[str]:
    """Every word of the texts and terms of recordings, as written and without punctuation."""
    said: set[str] = set()
    for recording in recordings:
        for text in (recording.text or "", *recording.terms):
            pieces = text.casefold().split()
            said.update(pieces, (piece.strip(".,;:!?\"'()") for piece in pieces))
            said.update(plain(text).split(), [plain(text)])
    return frozenset(said)


def said_phrases(recordings: Iterable[Recording]) -> frozenset[str]:
    """Every run of two to ``_LONGEST_PHRASE`` words of the texts and terms, without punctuation."""
    texts = (text for recording in recordings for text in (recording.text or "", *recording.terms))
    return frozenset(
        " ".join(words[first : first + count])
        for words in map(str.split, map(plain, texts))
        for count in range(2, _LONGEST_PHRASE + 1)
        for first in range(len(words) - count + 1)
    )


class Distractors:
    """Words in a random order, then made-up ones without end; none of them is said."""

    def __init__(
        self,
        words: Iterable[str],
        said: Collection[str],
        seed: int = 0,
        phrases: Collection[str] = (),
    ) -> None:
        """Order the words.

        Args:
            words: the list to draw from.
            said: words not to draw.
            seed: of the order and of what is made up.
            phrases: likewise not to draw, without any influence on the order of the others.

        Raises:
            InputError: no word is left.
        """
        listed = {word: bare for word in words if (bare := plain(word))}
        usable = sorted(
            word
            for word, bare in listed.items()
            if word.casefold() not in said and bare not in said
        )
        order = np.random.default_rng(seed).permutation(len(usable))
        drawn = (usable[place] for place in order)
        self._words = [word for word in drawn if listed[word] not in phrases]
        if not self._words:
            raise InputError("the word list has no word that the recordings do not say")
        self._taken = frozenset({listed[word] for word in usable} | set(said) | set(phrases))
        self._seed = seed

    def first(self, count: int) -> list[str]:
        """The first so many; a longer list begins with a shorter one."""
        missing = count - len(self._words)
        if missing > 0:
            made_up = islice(_made_up(self._words, self._taken, self._seed), missing)
            return [*self._words, *made_up]
        return self._words[:count]


def glossary(spoken: Sequence[str], distractors: Distractors, size: int) -> list[str]:
    """The spoken terms, then distractors up to ``size`` terms in all.

    Raises:
        InputError: the spoken terms alone are more.
    """
    if size < len(spoken):
        raise InputError(
            f"a glossary of {size} terms cannot hold the {len(spoken)} that are spoken; accepted "
            "are larger ones, or lists of each recording's own (--own-lists)"
        )
    return [*spoken, *distractors.first(size - len(spoken))]


def _made_up(words: Sequence[str], taken: Collection[str], seed: int) -> Iterator[str]:
    """Words like those of the list, letter after letter as often as there; no word twice."""
    successors = _successors(sorted(words))
    rng = random.Random(seed)
    made: set[str] = set()
    refused = 0
    while True:
        # A short list knows few sequences of letters: once they are used up, pieces are joined.
        pieces = 1 + refused // _PATIENCE
        word = "".join(_spell(successors, rng) for _ in range(pieces))
        key = plain(word)
        if not key or key in taken or key in made or (pieces == 1 and len(word) not in _LETTERS):
            refused += 1
            continue
        made.add(key)
        refused -= refused % _PATIENCE
        yield word


def _successors(words: Sequence[str]) -> dict[str, tuple[str, list[int]]]:
    """After each context: letters that follow, and how often, summed up."""
    counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for word in words:
        spelled = word.casefold() + _END
        for place, letter in enumerate(spelled):
            counts[spelled[max(0, place - _CONTEXT) : place]][letter] += 1
    return {
        context: ("".join(follow), list(accumulate(follow.values())))
        for context, follow in counts.items()
    }


def _spell(successors: dict[str, tuple[str, list[int]]], rng: random.Random) -> str:
    word = ""
    while not word.endswith(_END):
        letters, sums = successors[word[-_CONTEXT:]]
        word += letters[bisect(sums, rng.random() * sums[-1])]
    return word[:-1]
