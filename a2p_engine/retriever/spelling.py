"""Which terms a text spells out, and where.

Case, punctuation and hyphens aside. An apostrophe is a letter: "couldn't" does not contain
"couldn", and "the" does not spell "the'". Figures are read as words: "12 ounce" spells "twelve
ounce".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

LONGEST_RUN_WORDS = 6  # all runs are remembered; longer terms are read on from their beginning
NEAR_FRAMES = 8  # a term may be written so far from where it was heard
_CURLY = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_QUOTED_WORD = re.compile(r"'?[^\W_]+(?:'[^\W_]+)*'?")
UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()

Written = tuple[str, int, int]  # a word, its first frame and one past its last


class Spellings:
    """All runs of up to ``LONGEST_RUN_WORDS`` words of a text."""

    def __init__(self, stretches: Sequence[Sequence[Written]]) -> None:
        """Take words that follow each other, stretch by stretch; no run goes beyond its stretch."""
        self._readings = [parts for stretch in stretches for parts in _readings(stretch)]
        self._places: dict[str, set[tuple[int, int]]] = {}
        texts: set[str] = set()
        for parts, count in product(self._readings, range(1, LONGEST_RUN_WORDS + 1)):
            for text, start, end in _runs(parts, count):
                self._places.setdefault(text.casefold(), set()).add((start, end))
                texts.add(text)
        capitals = {" ".join(word[:1].upper() + word[1:] for word in t.split()) for t in texts}
        folded = {text.casefold() for text in texts}
        self.texts = sorted(texts | capitals | folded | {text.upper() for text in texts})

    def contain(self, term: str, start: int, end: int) -> bool:
        """Whether a term is spelt out about the frames ``start`` to ``end``."""
        return any(
            first < end + NEAR_FRAMES and last > start - NEAR_FRAMES
            for first, last in self._found(spelling(term))
        )

    def _found(self, text: str) -> set[tuple[int, int]]:
        words = text.split()
        found = self._places.get(" ".join(words[:LONGEST_RUN_WORDS]), set())
        if found and len(words) > LONGEST_RUN_WORDS:
            runs = (run for parts in self._readings for run in _runs(parts, len(words)))
            return {(start, end) for run, start, end in runs if run.casefold() == text}
        return found


def spelling(term: str) -> str:
    """What has to be written for a term to be spelt out."""
    return " ".join(_QUOTED_WORD.findall(term.replace(_CURLY, "'"))).casefold()


def words_only(text: str) -> str:
    """A text without punctuation, but for apostrophes within words."""
    return " ".join(_WORD.findall(text.replace(_CURLY, "'")))


def _readings(words: Sequence[Written]) -> list[list[Written]]:
    """A text's words as written, without quotation marks, and with figures in words."""
    known: list[list[Written]] = []
    for read in (_quoted, _bare, _in_words):
        parts = [(part, start, end) for text, start, end in words for part in read(text)]
        if parts not in known:
            known.append(parts)
    return known


def _runs(parts: Sequence[Written], count: int) -> Iterator[Written]:
    """Of so many words."""
    for first in range(len(parts) - count + 1):
        run = parts[first : first + count]
        yield " ".join(part for part, *_ in run), run[0][1], run[-1][2]


def _quoted(text: str) -> list[str]:
    return _QUOTED_WORD.findall(text.replace(_CURLY, "'"))


def _bare(text: str) -> list[str]:
    return words_only(text).split()


def _in_words(text: str) -> list[str]:
    return [part for word in _bare(text) for part in _number(word)]


def _number(word: str) -> list[str]:
    """Figures up to 99 as words; anything else as it is."""
    if not (word.isascii() and word.isdecimal() and len(word) <= 2):
        return [word]
    return below_hundred(int(word)).split()


def below_hundred(number: int) -> str:
    """A number from 0 to 99 in words."""
    if number < 20:
        return UNITS[number]
    tens = _TENS[number // 10 - 2]
    return tens if number % 10 == 0 else f"{tens} {UNITS[number % 10]}"
