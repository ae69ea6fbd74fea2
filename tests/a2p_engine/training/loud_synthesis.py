"""Synthesis with an encoder that needs no weights, and as a program that can be killed.

python -m tests.a2p_engine.training.loud_synthesis TEXT OUT UTTERANCES PROCESSES
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from a2p_engine.encoders.base import Encoded
from a2p_engine.training import synthesize as synthesis
from a2p_engine.training.voices import HibariVoice
from a2p_engine.types import Samples

SHARD_LINES = 4


class Loudness:
    """A real, if simple, encoder: four statistics of each 20 ms."""

    name = "loudness"
    width = 4
    hop_samples = 320

    def encode(self, samples: Samples) -> Encoded:
        """[T, 4]: mean, deviation, least and greatest sample."""
        count = -(-len(samples) // self.hop_samples)
        rows = np.pad(samples, (0, count * self.hop_samples - len(samples))).reshape(count, -1)
        parts = [rows.mean(1), rows.std(1), rows.min(1), rows.max(1)]
        return Encoded(frames=np.stack(parts, 1).astype(np.float32), native=None)


def plan(text: Path, utterances: int) -> synthesis.SynthesisPlan:
    """Training data without models."""
    return synthesis.SynthesisPlan(text=text, model=text.parent, utterances=utterances)


def start_worker(plan: synthesis.SynthesisPlan, out: Path) -> None:
    """As ``synthesize._start_worker``, with that encoder."""
    synthesis._maker = synthesis.ShardMaker(
        plan,
        out,
        lines=synthesis._lines(plan),
        voices=[HibariVoice(vary=plan.augment)],
        encoder=Loudness(),
    )


def main(text: str, out: str, utterances: str, processes: str) -> None:
    """Make shards of a few lines; prints how many were new."""
    synthesis._start_worker = start_worker
    synthesis._SHARD_LINES = SHARD_LINES
    made = plan(Path(text), int(utterances))
    print(synthesis.synthesize(made, out=Path(out), processes=int(processes)))


if __name__ == "__main__":
    # By its full name, under which the workers find ``start_worker``.
    from tests.a2p_engine.training import loud_synthesis

    loud_synthesis.main(*sys.argv[1:])
