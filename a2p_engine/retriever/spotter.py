"""The spotter: was this pronunciation said, where, and how well does it fit what was heard?

It reads the log-probabilities of a small phoneme CTC head over the same frames the A2P head sees,
and, unlike that head, it knows order and sound. Frame costs are relative to the best symbol of the
frame and bounded, so that one misheard phoneme costs a few nats instead of the term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from a2p_engine.ops.phone_match import advance

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

VOWELS = "AIOWYiuæɑɔəɛɜɪʊʌ"
# Consonants that differ in voicing, or are made in nearly the same way and place.
SIMILAR = ("pb", "td", "kɡ", "fv", "sz", "ʃʒ", "ʧʤ", "θð", "ʃʧ", "ʒʤ", "θf", "ðd", "θt", "mn", "nŋ",
           "lɹ", "vw", "sθ")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MatchCosts:
    """Costs in nats, chosen on development data.

    Attributes:
        cap: most that one frame can cost.
        vowel: one vowel said for another.
        similar: one consonant said for another of ``SIMILAR``.
        deletion: cost of a swallowed phoneme.
        linger: cost of each frame of blank inside a pronunciation.
    """

    cap: float = 5.0
    vowel: float = 1.5
    similar: float = 2.0
    deletion: float = 3.0
    linger: float = 0.05


def substitution_costs(symbols: Sequence[str], costs: MatchCosts) -> FloatArray:
    """Cost of saying one symbol where another was meant: [S, S], row meant, column said.

    Dictionaries, phonemizers and speakers disagree on vowels above all, then on voicing and on
    sounds made in the same place; such a pair costs less than two unrelated sounds.
    """
    table = np.full((len(symbols), len(symbols)), costs.cap, np.float32)
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    for group, cost in (*((g, costs.similar) for g in SIMILAR), (VOWELS, costs.vowel)):
        known = [numbers[symbol] for symbol in group if symbol in numbers]
        table[np.ix_(known, known)] = np.minimum(table[np.ix_(known, known)], cost)
    np.fill_diagonal(table, 0.0)
    return table


def emission_costs(log_probs: FloatArray, substitution: FloatArray) -> FloatArray:
    """Cost of meaning each symbol in each frame: [T, S] log-probabilities to [T, S] costs.

    Costs are relative to the frame's most probable symbol; a symbol is as cheap as the cheapest way
    to have said another one in its place.

    Args:
        log_probs: [T, S] from the CTC head, symbol 0 is the blank.
        substitution: [S, S] from ``substitution_costs``; its largest entry bounds a frame's cost.
    """
    said = log_probs.max(axis=1, keepdims=True) - log_probs  # [T, S]
    meant = np.empty_like(said)
    for symbol, row in enumerate(substitution):
        meant[:, symbol] = (said + row).min(axis=1)
    return np.asarray(np.minimum(meant, substitution.max()), np.float32)


class PhoneIndex:
    """Pronunciations of a glossary, packed one after the other.

    Attributes:
        phones: int16 [P] symbols.
        offsets: int32 [M + 1] into ``phones``.
        term_of: int32 [M], the term each pronunciation stands for.
        lengths: int32 [M] phonemes per pronunciation.
    """

    def __init__(self, pronunciations: Sequence[Sequence[int]], term_of: Sequence[int]) -> None:
        """Pack; a pronunciation without phonemes is an error of the caller."""
        if not all(pronunciations):
            raise ValueError("a pronunciation needs at least one phoneme")
        self.lengths: IntArray = np.array([len(p) for p in pronunciations], np.int32)
        self.offsets: IntArray = np.concatenate([[0], self.lengths.cumsum()]).astype(np.int32)
        self.phones = np.array([s for p in pronunciations for s in p], np.int16)
        self.term_of: IntArray = np.array(term_of, np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def subset(self, which: IntArray) -> PhoneIndex:
        """The index of some pronunciations only."""
        picked = object.__new__(PhoneIndex)
        picked.lengths = self.lengths[which]
        picked.offsets = np.concatenate([[0], picked.lengths.cumsum()]).astype(np.int32)
        starts = np.repeat(self.offsets[which] - picked.offsets[:-1], picked.lengths)
        picked.phones = self.phones[np.arange(len(starts), dtype=np.int32) + starts]
        picked.term_of = self.term_of[which]
        return picked


@dataclass(frozen=True)
class Matches:
    """Best match of each pronunciation so far.

    Attributes:
        cost: [M] nats, inf before the first frame.
        start: [M] first frame of the match.
        end: [M] last frame of the match.
    """

    cost: FloatArray
    start: IntArray
    end: IntArray


@dataclass
class SpotterState:
    """Alignment state over the frames seen so far; ``copy`` before a provisional tail."""

    path_cost: FloatArray
    path_start: IntArray
    matches: Matches
    frames: int = 0

    @classmethod
    def empty(cls, index: PhoneIndex) -> SpotterState:
        """The state before any frame."""
        phones, count = len(index.phones), len(index)
        return cls(
            np.full(phones, np.inf, np.float32),
            np.zeros(phones, np.int32),
            Matches(
                np.full(count, np.inf, np.float32),
                np.zeros(count, np.int32),
                np.zeros(count, np.int32),
            ),
        )

    def copy(self) -> SpotterState:
        """A state that can go on without touching this one."""
        matches = Matches(*(part.copy() for part in vars(self.matches).values()))
        return replace(
            self,
            path_cost=self.path_cost.copy(),
            path_start=self.path_start.copy(),
            matches=matches,
        )

    def advance(self, index: PhoneIndex, emissions: FloatArray, costs: MatchCosts) -> None:
        """Hear [T, S] more emission costs, in place."""
        advance(
            emissions,
            self.frames,
            index.phones,
            index.offsets,
            costs.deletion,
            costs.linger,
            self.path_cost,
            self.path_start,
            self.matches.cost,
            self.matches.start,
            self.matches.end,
        )
        self.frames += len(emissions)
