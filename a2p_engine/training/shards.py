"""Encoder frames on disk: ``NAME.npy`` float16 [T, D] beside ``NAME.jsonl``, one line an utterance.

The index is renamed into place last, so a shard either is complete or does not exist.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2p_engine.errors import TrainingError

Frames = npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """One line of an index.

    Attributes:
        id: unique within its data set.
        text: what was said.
        phonemes: dictionary pronunciation, misaki's alphabet with stress and punctuation.
        voice: who said it.
        seed: with the line's number, everything random about it.
        start: first row of the utterance in the shard.
        frames: number of rows, 50 a second.
    """

    id: str
    text: str
    phonemes: str
    voice: str
    seed: int
    start: int
    frames: int


def write_shard(path: Path, frames: Sequence[Frames], utterances: Sequence[Utterance]) -> None:
    """Write ``path``.npy and then ``path``.jsonl, each under a temporary name first."""
    partial = path.with_suffix(".partial")
    width = frames[0].shape[1] if frames else 1
    with partial.open("wb") as file:
        np.save(file, np.concatenate(frames) if frames else np.zeros((0, width), np.float16))
    os.replace(partial, path.with_suffix(".npy"))
    lines = (json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in utterances)
    partial.write_text("".join(lines), "utf-8")
    os.replace(partial, path.with_suffix(".jsonl"))


def is_complete(path: Path) -> bool:
    """Whether the shard was written to its end."""
    return path.with_suffix(".jsonl").exists()


def read_shards(directory: Path) -> Iterator[tuple[Frames, list[Utterance]]]:
    """Complete shards of a directory in order; frames are memory-mapped.

    Raises:
        TrainingError: there is none, or an index does not fit its frames.
    """
    indices = sorted(directory.glob("*.jsonl"))
    found = False
    for index in indices:
        array = index.with_suffix(".npy")
        if not array.exists():
            continue  # a manifest of kept audio, not an index
        found = True
        lines = index.read_text("utf-8").splitlines()
        utterances = [Utterance(**json.loads(line)) for line in lines]
        frames = np.load(array, mmap_mode="r")
        if utterances and utterances[-1].start + utterances[-1].frames > len(frames):
            raise TrainingError(f"{index} promises more frames than {array.name} holds")
        yield frames, utterances
    if not found:
        raise TrainingError(f"no complete shard in {directory}")
