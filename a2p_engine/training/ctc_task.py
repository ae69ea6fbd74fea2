"""Training the phoneme head: CTC on dictionary pronunciations and word boundaries.

python -m a2p_engine.training.ctc_task HEAD DATA... prints the phoneme error rate of a trained head
on directories of shards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from a2p_engine.errors import A2PError
from a2p_engine.retriever.phoneme_ctc import BLANK, CTCConfig, PhonemeCTC, with_boundaries
from a2p_engine.training.data import Batch, FrameData


class CTCTask:
    """Loss and quality of ``PhonemeCTC``; see ``train.Task``."""

    quality_name = "phoneme error rate"

    def __init__(self, config: CTCConfig) -> None:
        """Make an untrained head."""
        self.head = PhonemeCTC(config)
        self.module: nn.Module = self.head
        numbers = {symbol: number for number, symbol in enumerate(self.head.symbols)}

        @lru_cache(maxsize=100_000)
        def targets(phonemes: str) -> tuple[int, ...]:
            return tuple(numbers[symbol] for symbol in with_boundaries(phonemes))

        self._targets = targets

    def loss(self, module: nn.Module, batch: Batch, progress: float, seed: int) -> Tensor:
        """CTC loss per phoneme; ``progress`` and ``seed`` are not used."""
        del progress, seed
        log_probs = module(batch.frames, batch.lengths).transpose(0, 1)  # [T, B, S] at 25 Hz
        targets = [self._targets(u.phonemes) for u in batch.utterances]
        return nn.functional.ctc_loss(
            log_probs,
            torch.tensor([t for row in targets for t in row], device=log_probs.device),
            self.head.outputs(batch.lengths),
            torch.tensor([len(row) for row in targets], device=log_probs.device),
            blank=BLANK,
            zero_infinity=True,  # very fast speech has more phonemes than frames
        )

    @torch.no_grad()
    def quality(self, module: nn.Module, data: FrameData) -> float:
        """Phoneme error rate of the greedy reading."""
        errors = total = 0
        for number in range(len(data)):
            frames = data.frames(number).to(next(module.parameters()).device)
            best = module(frames[None])[0].argmax(-1)
            heard = [int(s) for s in torch.unique_consecutive(best) if s != BLANK]
            said = self._targets(data.utterances[number].phonemes)
            errors += edit_distance(said, heard)
            total += len(said)
        return errors / max(total, 1)

    def save(self, path: Path) -> None:
        """Write the head as it is shipped."""
        self.head.save(path)


def edit_distance(first: tuple[int, ...] | list[int], second: tuple[int, ...] | list[int]) -> int:
    """Levenshtein distance."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def main(arguments: Sequence[str]) -> int:
    """Print how well a trained head reads each directory; the exit status is 2 where it cannot."""
    if len(arguments) < 2:
        print("expected a head and directories of shards", file=sys.stderr)
        return 2
    path, *directories = map(Path, arguments)
    try:
        head = PhonemeCTC.load(path)
        for directory in directories:
            data = FrameData([directory])
            rate = CTCTask(head.config).quality(head, data)
            print(f"{directory}: phoneme error rate {rate:.4f}, {len(data)} utterances")
    except A2PError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
