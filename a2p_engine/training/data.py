"""Shards to batches: utterances of like length together, in an order fixed by seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from a2p_engine.errors import TrainingError
from a2p_engine.training.shards import FRAME_RATE_HZ, StoredFrames, Utterance, read_shards

_POOL = 512  # utterances sorted by length at a time: little padding, much randomness


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Utterances padded to the longest.

    Attributes:
        frames: float32 [B, T, D] at the encoder's rate.
        lengths: int64 [B], real frames.
        utterances: what was said.
    """

    frames: Tensor
    lengths: Tensor
    utterances: tuple[Utterance, ...]


class FrameData:
    """All utterances of some directories of shards, memory-mapped.

    Attributes:
        pool: frames in 40 ms: 2 at 50 Hz, 1 at 25 Hz.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        """Open the complete shards that are there now.

        Raises:
            TrainingError: a directory holds none, or their frames are of different rates.
        """
        self._items: list[tuple[StoredFrames, Utterance]] = [
            (frames, utterance)
            for directory in directories
            for frames, utterances in read_shards(directory)
            for utterance in utterances
        ]

        rates = {utterance.frame_rate_hz for _, utterance in self._items} or {FRAME_RATE_HZ}
        if len(rates) > 1 or not rates <= {25, 50}:
            raise TrainingError(
                f"frames come {' and '.join(map(str, sorted(rates)))} a second; accepted are "
                "25 or 50, all alike"
            )
        self.pool = rates.pop() // 25  # frames in the 40 ms at which heads work

    def __len__(self) -> int:
        return len(self._items)

    @property
    def utterances(self) -> list[Utterance]:
        """Index lines of all utterances, in order."""
        return [utterance for _, utterance in self._items]

    @property
    def hours(self) -> float:
        """Amount of speech."""
        return sum(u.frames / u.frame_rate_hz for u in self.utterances) / 3600

    def frames(self, number: int) -> Tensor:
        """Frames of one utterance, float32 [T, D]."""
        shard, utterance = self._items[number]
        return torch.from_numpy(shard[utterance.start : utterance.start + utterance.frames])

    def batches(
        self,
        *,
        frames_per_batch: int,
        epoch: int,
        seed: int,
        skip: int = 0,
        utterances_per_batch: int | None = None,
    ) -> Batches:
        """The batches of an epoch, without the first ``skip``.

        Args:
            frames_per_batch: bound of a batch's frames, padding included.
            epoch: number of the epoch.
            seed: with the epoch, fixes the order.
            skip: batches to leave out, when training goes on in mid-epoch.
            utterances_per_batch: bound of a batch's utterances.
        """
        most = utterances_per_batch or len(self)
        plan = self._plan(frames_per_batch, most, np.random.default_rng([seed, epoch]))
        return Batches(self, plan[skip:])

    def _plan(self, limit: int, most: int, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(len(self._items))
        groups: list[list[int]] = []
        for start in range(0, len(order), _POOL):
            pool = sorted(order[start : start + _POOL], key=lambda i: self._items[i][1].frames)
            groups.append([])
            for number in pool:  # rising length: the newest is the longest
                size = (len(groups[-1]) + 1) * self._items[number][1].frames
                if groups[-1] and (size > limit or len(groups[-1]) == most):
                    groups.append([])
                groups[-1].append(int(number))
        return [groups[i] for i in rng.permutation(len(groups))]

    def collate(self, numbers: Sequence[int]) -> Batch:
        """Utterances by number as one batch."""
        rows = [self.frames(n) for n in numbers]
        return Batch(
            frames=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            lengths=torch.tensor([len(row) for row in rows]),
            utterances=tuple(self._items[n][1] for n in numbers),
        )


@dataclass(frozen=True)
class Batches:
    """What is left of an epoch."""

    data: FrameData
    plan: list[list[int]]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.data.collate, self.plan)
