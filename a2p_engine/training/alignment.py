"""Where each word of a training utterance was said: forced alignment with the phoneme head.

The A2P head must find words in time before it can tell whether they were said. Left to itself it
takes thousands of steps to discover that; shown the places, it starts from there.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.retriever.phoneme_ctc import PhonemeCTC, to_symbols
from a2p_engine.training.data import Batch
from a2p_engine.training.shards import Utterance
from a2p_engine.training.texts import words_of

Span = tuple[int, int]
_MARGIN_FRAMES = 1  # CTC marks the middle of a sound; 40 ms on each side are still the word


class Aligner:
    """Word spans at 25 Hz."""

    def __init__(self, head: PhonemeCTC) -> None:
        """Take a trained phoneme head."""
        self._head = head.eval()
        self._numbers = {symbol: number for number, symbol in enumerate(head.symbols)}

    @torch.no_grad()
    def spans(self, batch: Batch) -> list[list[tuple[str, Span]]]:
        """(word, (first frame, one past the last)) of each utterance, in order.

        An utterance is left empty when its words cannot be told apart in its phonemes (numbers,
        hyphens) or when it was too fast to align.
        """
        self._head.to(batch.frames.device)
        log_probs = self._head(batch.frames, batch.lengths).cpu()
        return [
            self._align(log_probs[row, : int(length)], utterance)
            for row, (length, utterance) in enumerate(
                zip(self._head.outputs(batch.lengths), batch.utterances, strict=True)
            )
        ]

    def _align(self, log_probs: Tensor, utterance: Utterance) -> list[tuple[str, Span]]:
        words = words_of(utterance.text)
        spoken = [to_symbols(group) for group in utterance.phonemes.split()]
        spoken = [group for group in spoken if group]
        targets = np.array([self._numbers[s] for group in spoken for s in group], np.int64)
        if len(words) != len(spoken) or not len(targets) or len(targets) > len(log_probs):
            return []
        states = viterbi(log_probs.numpy(), targets)
        found, first = [], 0
        for word, group in zip(words, spoken, strict=True):
            inside = np.flatnonzero((states >= first) & (states < first + len(group)))
            first += len(group)
            if len(inside):
                start, end = int(inside[0]) - _MARGIN_FRAMES, int(inside[-1]) + 1 + _MARGIN_FRAMES
                found.append((word, (max(0, start), min(len(states), end))))
        return found


@numba.njit(nogil=True, cache=True)
def viterbi(log_probs: npt.NDArray[Any], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Best CTC path of a known symbol string.

    Args:
        log_probs: [T, S], symbol 0 is the blank.
        targets: [L] symbols, at least one; equal neighbours are kept apart by a blank.

    Returns:
        int64 [T], which of the L symbols each frame belongs to, -1 for blank.
    """
    frames, states = log_probs.shape[0], 2 * len(targets) + 1
    score = np.full((frames, states), -np.inf)
    back = np.zeros((frames, states), np.int64)
    score[0, 0], score[0, 1] = log_probs[0, 0], log_probs[0, targets[0]]
    for t in range(1, frames):
        for s in range(states):
            best, step = score[t - 1, s], 0
            if s > 0 and score[t - 1, s - 1] > best:
                best, step = score[t - 1, s - 1], 1
            jump = s % 2 == 1 and s > 1 and targets[s // 2] != targets[s // 2 - 1]
            if jump and score[t - 1, s - 2] > best:
                best, step = score[t - 1, s - 2], 2
            score[t, s] = best + log_probs[t, targets[s // 2] if s % 2 else 0]
            back[t, s] = step
    state = states - 1
    if score[frames - 1, states - 2] > score[frames - 1, states - 1]:
        state = states - 2
    path = np.empty(frames, np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state // 2 if state % 2 else -1
        state -= back[t, state]
    return path
