"""What a speech LLM has already written of a segment, as evidence for and against terms.

A term that the text spells out, untold, was most likely said. One whose audio the text explains
by words that fit, that are common and of which the model is sure, most likely was not. Where the
text is strange or unsure, a term may be what was meant.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numba
import numpy as np
import numpy.typing as npt

from a2p_engine.choices import LEAST_LOG_ODDS, Choice, fork
from a2p_engine.retriever.spelling import NEAR_FRAMES, Spellings

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

_DELETION = np.float32(3.0)
_LINGER = np.float32(0.05)
_WORST = np.float32(20.0)  # nats; a misfit beyond says no more
_IMPOSSIBLE = np.float32(1e9)
_SURE = 0.999  # probabilities beyond say no more
_EDGE_FRAMES = 2  # word times are exact to about 80 ms


@dataclass(frozen=True, slots=True)
class WrittenWord:
    """A word of a hypothesis.

    Attributes:
        text: as written.
        start: first frame (25 Hz).
        end: one past its last frame.
        probability: the speech LLM's.
        told: whether it belongs to a term that was in the prompt, so that it proves nothing.
        choices: what else might have been written, where that is known.
    """

    text: str
    start: int
    end: int
    probability: float
    told: bool = False
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """A hypothesis of a segment.

    Attributes:
        words: in order.
        frames: how many frames (25 Hz) it covers.
    """

    words: tuple[WrittenWord, ...]
    frames: int


class Reading:
    """A transcript laid along the frames of a segment, to be asked about any stretch of it."""

    def __init__(
        self,
        transcript: Transcript,
        *,
        costs: FloatArray,
        pronunciations: Sequence[Sequence[int]],
        rarities: Sequence[float],
    ) -> None:
        """Align.

        Args:
            transcript: what was written.
            costs: [T, S] of meaning each symbol in each frame.
            pronunciations: symbols of each word, empty where it has none.
            rarities: how rare each word is.
        """
        frames = len(costs)
        covered = min(transcript.frames, frames)
        symbols = np.array([s for word in pronunciations for s in word], np.int64)
        written = aligned_costs(costs[:covered], symbols)
        self._costs = np.pad(written, (0, frames - covered), mode="edge")
        doubt = np.full(frames, _log_odds_against(_SURE), np.float32)  # pauses are sure
        rarity = np.zeros(frames, np.float32)
        self._open = np.ones(frames + 1, np.int64)
        self._open[:covered] = 0
        for word, rare in zip(transcript.words, rarities, strict=True):
            stretch = slice(word.start, max(word.end, word.start + 1))
            doubt[stretch] = _log_odds_against(word.probability)
            rarity[stretch] = rare
            self._open[stretch] |= word.told
        self._open = np.concatenate([[0], np.cumsum(self._open[:frames])])
        self._doubt, self._rarity = _Maxima(doubt), _Maxima(rarity)
        self.spellings = spellings_of(transcript)
        forks = zip(transcript.words, _forks(transcript.words), strict=True)
        self._forks = sorted(((word.start, known) for word, known in forks), key=itemgetter(0))
        self._weighed = any(known for _, known in self._forks)

    def covers(self, start: IntArray, end: IntArray) -> npt.NDArray[np.bool_]:
        """Whether each stretch was written down without being told what is there: [M]."""
        return np.asarray(self._open[end] == self._open[start])

    def features(self, cost: FloatArray, start: IntArray, end: IntArray) -> FloatArray:
        """What the text says about terms that match stretches of audio.

        Args:
            cost: [M] nats of each match.
            start: [M] first frame.
            end: [M] one past the last frame.

        Returns:
            [M, 5]: how much worse the text fits the stretch than the term does, how badly it fits
            (nats, both bounded), the model's greatest doubt (logit), the rarest word, and how
            surely the text explains all that is heard.
        """
        misfit = np.clip(self._costs[end] - self._costs[start], 0, _WORST)
        shorter = np.minimum(_EDGE_FRAMES, (end - start - 1) // 2)
        first, last = start + shorter, end - shorter
        doubt = self._doubt.between(first, last)
        columns = (
            np.clip(misfit - cost, -_WORST, _WORST),
            misfit,
            doubt,
            self._rarity.between(first, last),
            np.maximum(-doubt, 0) * np.exp(-misfit / 2),
        )
        return np.stack(columns, axis=1).astype(np.float32)

    def fork(self, spellings: Sequence[Sequence[int]], start: int) -> float | None:
        """Log-odds of the best of some spellings against the text, where both part.

        Args:
            spellings: tokens of each way to write a term.
            start: first frame of the term's match.

        Returns:
            At most 0; None where it is not known what else might have been written.
        """
        if not self._weighed:
            return None
        first = bisect_left(self._forks, start - NEAR_FRAMES, key=itemgetter(0))
        last = bisect_right(self._forks, start + NEAR_FRAMES, key=itemgetter(0))
        near = [choices for _, choices in self._forks[first:last]]
        known = [choices for choices in near if choices]
        if known:
            return max(fork(choices, spelling) for choices in known for spelling in spellings)
        return None if near else LEAST_LOG_ODDS


def _forks(words: Sequence[WrittenWord]) -> list[tuple[Choice, ...]]:
    """Choices from the beginning of each word to the end of the text, or as far as known."""
    found: list[tuple[Choice, ...]] = []
    behind: tuple[Choice, ...] = ()
    for word in reversed(words):
        behind = word.choices + behind if word.choices else ()
        found.append(behind)
    return found[::-1]


def _log_odds_against(probability: float) -> float:
    sure = min(max(probability, 1 - _SURE), _SURE)
    return float(np.log((1 - sure) / sure))


class _Maxima:
    """Largest value between two frames, for many pairs at once (a sparse table)."""

    def __init__(self, values: FloatArray) -> None:
        self._levels = [values]
        while 2 ** len(self._levels) <= len(values):
            half = 2 ** (len(self._levels) - 1)
            below = self._levels[-1]
            self._levels.append(np.maximum(below[:-half], below[half:]))

    def between(self, start: IntArray, end: IntArray) -> FloatArray:
        """[M] of the frames ``start`` to ``end``, at least one."""
        found = np.empty(len(start), np.float32)
        level = np.log2(np.maximum(end - start, 1)).astype(np.int64)
        for number in np.flatnonzero(np.bincount(level)):
            which = level == number
            table = self._levels[number]
            found[which] = np.maximum(table[start[which]], table[end[which] - 2**number])
        return found


def spellings_of(transcript: Transcript) -> Spellings:
    """What a text spells out; a word that was told spells nothing, nor do words around it."""
    stretches = groupby(transcript.words, key=lambda word: word.told)
    return Spellings(
        [
            [(word.text, word.start, word.end) for word in words]
            for told, words in stretches
            if not told
        ]
    )


@numba.njit(nogil=True, cache=True)
def aligned_costs(costs: FloatArray, symbols: npt.NDArray[np.int64]) -> FloatArray:
    """Cost of the best alignment of a symbol string to all frames, summed up frame by frame.

    As in ``phone_match``, a symbol may go on, be followed by blanks or be left out.

    Args:
        costs: [T, S] of meaning each symbol in each frame; symbol 0 is the blank.
        symbols: [L], none of them the blank.

    Returns:
        [T + 1], at t the cost of the frames before t; ``_WORST`` for each of them where the string
        has more symbols than there is time for.
    """
    frames, count = costs.shape[0], len(symbols)
    silence = np.zeros(frames + 1, np.float32)
    for t in range(frames):
        silence[t + 1] = silence[t] + costs[t, 0]
    if count == 0 or frames == 0:
        return silence
    best = np.full((frames + 1, count), _IMPOSSIBLE, np.float32)
    step = np.zeros((frames + 1, count), np.int8)
    for t in range(1, frames + 1):
        blank = costs[t - 1, 0] + _LINGER
        for i in range(count):
            cost = costs[t - 1, symbols[i]]
            value = best[t - 1, i] + min(cost, blank)
            entry = (best[t - 1, i - 1] if i > 0 else silence[t - 1]) + cost
            if entry < value:
                value, step[t, i] = entry, 1
            if i > 0:
                skip = (best[t - 1, i - 2] if i > 1 else silence[t - 1]) + cost + _DELETION
                if skip < value:
                    value, step[t, i] = skip, 2
            best[t, i] = value
    if best[frames, count - 1] >= _IMPOSSIBLE:
        return _WORST * np.arange(frames + 1).astype(np.float32)
    total = silence.copy()
    at, t = count - 1, frames
    while t > 0 and at >= 0:
        total[t] = best[t, at]
        at -= step[t, at]
        t -= 1
    return total
