"""The spotter: was this pronunciation said, where, and how well does it fit what was heard?

It reads the log-probabilities of a small phoneme CTC head over the same frames the A2P head sees,
and, unlike that head, it knows order and sound. Frame costs are relative to the best symbol of the
frame and bounded, so that one misheard phoneme costs a few nats instead of the term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from a2p_engine.ops.phone_match import LANES, advance

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
    vowel: float = 2.0
    similar: float = 2.5
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
    """Pronunciations of a glossary; what ``phone_match`` needs is laid out when first asked for.

    Attributes:
        symbols: int32 [P], the pronunciations one after the other.
        lengths: int32 [M] phonemes per pronunciation.
        term_of: int32 [M], the term each pronunciation stands for.
    """

    def __init__(self, pronunciations: Sequence[Sequence[int]], term_of: Sequence[int]) -> None:
        """Pack; a pronunciation without phonemes is an error of the caller."""
        if not all(pronunciations):
            raise ValueError("a pronunciation needs at least one phoneme")
        self.symbols = np.array([symbol for p in pronunciations for symbol in p], np.int32)
        self.lengths = np.array([len(p) for p in pronunciations], np.int32)
        self.term_of = np.array(term_of, np.int32)

    @classmethod
    def packed(cls, symbols: IntArray, lengths: IntArray, term_of: IntArray) -> PhoneIndex:
        """From the attributes themselves."""
        index = cls((), ())
        index.symbols, index.lengths, index.term_of = symbols, lengths, term_of
        return index

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the pronunciations, without their layout."""
        return self.symbols.nbytes + self.lengths.nbytes + self.term_of.nbytes

    def subset(self, which: IntArray) -> PhoneIndex:
        """The index of some pronunciations only."""
        lengths = self.lengths[which]
        begins = (self._offsets[which] - (np.cumsum(lengths) - lengths)).repeat(lengths)
        symbols = self.symbols[begins + np.arange(len(begins))]
        return PhoneIndex.packed(symbols, lengths, self.term_of[which])

    def each(self) -> list[list[int]]:
        """The symbols of each pronunciation."""
        ends = self._offsets + self.lengths
        return [
            self.symbols[begin:end].tolist() for begin, end in zip(self._offsets, ends, strict=True)
        ]

    @cached_property
    def layout(self) -> PhoneLayout:
        """The pronunciations side by side, in blocks of the same length."""
        lane_of = np.zeros(len(self.lengths), np.int32)
        tables: list[IntArray] = []
        block_lengths: list[int] = []
        for length in np.unique(self.lengths):
            members = np.flatnonzero(self.lengths == length)
            blocks = -(-len(members) // LANES)
            table = np.zeros((blocks * LANES, length), np.int32)  # spare lanes hear blanks
            places = self._offsets[members, None] + np.arange(length)
            table[: len(members)] = self.symbols[places]
            lane_of[members] = len(block_lengths) * LANES + np.arange(len(members))
            tables.append(table.reshape(blocks, LANES, length).transpose(0, 2, 1).ravel())
            block_lengths += [int(length)] * blocks
        phones = np.concatenate([np.zeros(0, np.int32), *tables])
        return PhoneLayout(phones, np.array(block_lengths, np.int32), lane_of)

    @cached_property
    def _offsets(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths


@dataclass(frozen=True)
class PhoneLayout:
    """Pronunciations as ``phone_match`` wants them.

    Attributes:
        phones: int32 [P'] symbols, in blocks of ``LANES`` pronunciations of the same length.
        block_lengths: int32 [blocks].
        lane_of: int32 [M], place of each pronunciation among all lanes.
    """

    phones: IntArray
    block_lengths: IntArray
    lane_of: IntArray


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
    """Alignment state over the frames seen so far; ``copy`` before a provisional tail.

    Attributes:
        path_cost: [P] and path_start [P], see ``phone_match``.
        lanes: best matches by lane, spare lanes included.
        frames: number of frames heard.
    """

    path_cost: FloatArray
    path_start: IntArray
    lanes: Matches
    frames: int = 0

    @classmethod
    def empty(cls, index: PhoneIndex) -> SpotterState:
        """The state before any frame."""
        layout = index.layout
        phones, lanes = len(layout.phones), len(layout.block_lengths) * LANES
        return cls(
            np.full(phones, np.inf, np.float32),
            np.zeros(phones, np.int32),
            Matches(
                np.full(lanes, np.inf, np.float32),
                np.zeros(lanes, np.int32),
                np.zeros(lanes, np.int32),
            ),
        )

    def copy(self) -> SpotterState:
        """A state that can go on without touching this one."""
        lanes = Matches(*(part.copy() for part in vars(self.lanes).values()))
        return SpotterState(self.path_cost.copy(), self.path_start.copy(), lanes, self.frames)

    def advance(self, index: PhoneIndex, emissions: FloatArray, costs: MatchCosts) -> None:
        """Hear [T, S] more emission costs, in place."""
        advance(
            np.ascontiguousarray(emissions),
            self.frames,
            index.layout.phones,
            index.layout.block_lengths,
            costs.deletion,
            costs.linger,
            self.path_cost,
            self.path_start,
            self.lanes.cost,
            self.lanes.start,
            self.lanes.end,
        )
        self.frames += len(emissions)

    def matches(self, index: PhoneIndex) -> Matches:
        """The best match of each pronunciation, in the index's order."""
        return Matches(*(part[index.layout.lane_of] for part in vars(self.lanes).values()))
