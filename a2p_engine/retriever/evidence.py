"""What is known of terms: of every pronunciation, of candidates, of the most probable ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from a2p_engine.ops import ctc_forward
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.spotter import Matches, PhoneIndex

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Heard:
    """What both stages say of M pronunciations.

    Attributes:
        term: [M] number of the term each stands for, ascending.
        length: [M] symbols.
        match: the spotter's.
        gain: [M] of the A2P head, of the term.
        row: [M] places in ``phones``, ascending.
        phones: the pronunciations, one table after the other.
    """

    term: IntArray
    length: IntArray
    match: Matches
    gain: FloatArray
    row: IntArray
    phones: tuple[PhoneIndex, ...]

    def part(self, which: npt.NDArray[np.int64]) -> Heard:
        """Some of the pronunciations; ``which`` is ascending."""
        match = Matches(*(column[which] for column in vars(self.match).values()))
        columns = (self.term[which], self.length[which], match, self.gain[which], self.row[which])
        return Heard(*columns, self.phones)

    @property
    def symbols(self) -> IntArray:
        """Symbols of all pronunciations, one after the other."""
        found, first = [np.zeros(0, np.int32)], 0
        for phones in self.phones:
            inside = (self.row >= first) & (self.row < first + len(phones))
            found.append(phones.subset(self.row[inside] - first).symbols)
            first += len(phones)
        return np.concatenate(found)


@dataclass(frozen=True)
class Evidence:
    """The most probable terms after a tick, ``CANDIDATES`` at most.

    Attributes:
        term: [C] numbers in the glossary, ascending.
        probability: [C] calibrated.
        cost: [C] nats of the best match, inf where there is none.
        start: [C] first encoder frame of the match.
        end: [C] one past its last encoder frame.
    """

    term: IntArray
    probability: FloatArray
    cost: FloatArray
    start: IntArray
    end: IntArray


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a pronunciation fits a stretch of audio.

    Attributes:
        cost: nats of its best match there.
        length: its phonemes.
        start: first encoder frame of the match.
        end: one past its last encoder frame.
    """

    cost: float
    length: int
    start: int
    end: int

    @property
    def mean_cost(self) -> float:
        """Nats per phoneme."""
        return self.cost / self.length


def joined(
    found: Sequence[tuple[int, PhoneIndex, Matches]], index: GlossaryIndex, scores: Tensor
) -> Heard:
    """One table of all sections; what was switched off gets no gain."""
    term = np.concatenate([first + phones.term_of for first, phones, _ in found])
    parts = (vars(matches).values() for *_, matches in found)
    weights = index.log_weights[term]
    silent = np.isinf(weights)
    gain = scores.cpu().numpy()[term] - np.where(silent, 0, weights)
    return Heard(
        term,
        np.concatenate([phones.lengths for _, phones, _ in found]),
        Matches(*(np.concatenate(columns) for columns in zip(*parts, strict=True))),
        np.where(silent, 0, gain).astype(np.float32),
        np.arange(len(term), dtype=np.int32),
        tuple(phones for _, phones, _ in found),
    )


def best_of_each(term: IntArray, logits: FloatArray) -> npt.NDArray[np.int64]:
    """Of the ways to say a term, the most probable one speaks for it; ``term`` is ascending."""
    fresh = np.diff(term, prepend=-1) > 0
    owner = np.cumsum(fresh) - 1
    most = np.maximum.reduceat(logits, np.flatnonzero(fresh))
    hits = np.flatnonzero(logits == most[owner])
    best = np.zeros(len(most), np.int64)
    best[owner[hits]] = hits
    return best


def likelihoods(log_probs: FloatArray, found: Heard) -> FloatArray:
    """CTC log-probability of each candidate against the best path: [M] nats.

    A frame on either side belongs to the stretch, since the spotter's path may begin late and end
    early at no cost.
    """
    begins = np.maximum(found.match.start - 1, 0)
    ends = np.minimum(found.match.end + 2, len(log_probs))
    likelihood = ctc_forward.forward(
        np.ascontiguousarray(log_probs), found.symbols, found.length, begins, ends
    )
    best = np.concatenate([[0.0], np.cumsum(log_probs.max(axis=1), dtype=np.float64)])
    return np.asarray(likelihood - (best[ends] - best[begins]), np.float32)
