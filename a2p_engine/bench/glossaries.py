"""Made-up glossaries: pronounceable terms whose tokens are shared as a tokenizer shares them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from a2p_engine.retriever.term_table import Strings, TermTable
from a2p_engine.types import Term

IntArray = npt.NDArray[np.int32]

# Zipf-Mandelbrot, p(rank) ~ (rank + SHIFT) ** -EXPONENT. Fitted to Whisper's tokenizer, which cuts
# 10,000 rare words into 6,500 distinct tokens.
EXPONENT = 1.15
SHIFT = 1.97
# How many terms have 1, 2, ... tokens: about three on average, as rare words have.
TOKENS = (0.08, 0.27, 0.35, 0.20, 0.08, 0.02)

SYLLABLES = np.array(
    [list((c + v).encode()) for c in "bdfghjklmnprstvwxyzc" for v in "aeiou"], np.uint8
)  # [100, 2]
FIRST_WORD = 4  # syllables that spell a term's number, so that no two terms are alike
LATER_WORD = 3
MOST_TERMS = 10_000_000
_SCATTER = 61_803_399  # has no factor in common with 100 ** FIRST_WORD
_SPACE = ord(" ")


@dataclass(frozen=True, kw_only=True)
class Glossary:
    """N terms with one spelling each.

    Attributes:
        texts: the terms.
        token_ids: int32 [R], tokens of all terms.
        offsets: int32 [N + 1] into ``token_ids``.
    """

    texts: Strings
    token_ids: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def distinct(self) -> IntArray:
        """[V] tokens in use, ascending."""
        return np.unique(self.token_ids)

    @cached_property
    def lengths(self) -> IntArray:
        """[N] tokens of each term."""
        return np.diff(self.offsets)

    def terms(self) -> list[Term]:
        """The terms one by one, as an edit brings them."""
        return [Term(text=text) for text in self.texts]

    def tokens(self) -> list[list[list[int]]]:
        """Per term and spelling its token ids."""
        return [[part.tolist()] for part in np.split(self.token_ids, self.offsets[1:-1])]

    def table(self) -> TermTable:
        """The terms in columns, without a detour over objects."""
        count = len(self)
        nothing = Strings(np.zeros(0, np.uint8), np.zeros(count + 1, np.int64))
        hashes = np.fromiter((zlib.crc32(text.encode()) for text in self.texts), np.uint32, count)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return TermTable(
            texts=self.texts,
            forms=nothing,
            targets=nothing,
            weights=np.ones(count, np.float32),
            enabled=np.ones(count, np.bool_),
            hashes=hashes[order],
            hashed=order,
        )


class GlossaryMaker:
    """Draws glossaries over one vocabulary; terms of different numbers have different texts."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        """Decide which tokens are the frequent ones."""
        random = np.random.default_rng(seed)
        weights = (np.arange(1, vocabulary + 1) + SHIFT) ** -EXPONENT
        self._seed = seed
        self._cumulative = np.cumsum(weights / weights.sum())
        self._token_of_rank = random.permutation(vocabulary).astype(np.int32)

    def make(self, count: int, first: int = 0) -> Glossary:
        """Terms ``first`` to ``first + count``; their tokens depend on ``first`` as well."""
        random = np.random.default_rng((self._seed, first))
        lengths = random.choice(np.arange(1, len(TOKENS) + 1), count, p=TOKENS)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        ranks = np.searchsorted(self._cumulative, random.random(offsets[-1]))
        ranks = np.minimum(ranks, len(self._token_of_rank) - 1)  # the sum may fall short of 1
        return Glossary(
            texts=_texts(np.arange(first, first + count), random),
            token_ids=self._token_of_rank[ranks],
            offsets=offsets,
        )


def _texts(numbers: npt.NDArray[np.int64], random: np.random.Generator) -> Strings:
    """One to three words per number: the first spells the number, the others are random."""
    count, base = len(numbers), len(SYLLABLES)
    scattered = numbers * _SCATTER % base**FIRST_WORD
    digits = scattered[:, None] // base ** np.arange(FIRST_WORD) % base
    words = [SYLLABLES[digits].reshape(count, -1)]
    for _ in range(2):
        syllables = SYLLABLES[random.integers(base, size=(count, LATER_WORD))]
        words += [np.full((count, 1), _SPACE, np.uint8), syllables.reshape(count, -1)]
    text = np.concatenate(words, axis=1)  # [N, longest]
    later = 2 * LATER_WORD + 1
    lengths = 2 * FIRST_WORD + later * random.integers(3, size=count)
    kept = np.arange(text.shape[1]) < lengths[:, None]
    return Strings(text[kept], np.concatenate([[0], np.cumsum(lengths)]))
