"""Encoder frames on disk: ``NAME.npy`` [T, D] beside ``NAME.jsonl``, one line an utterance.

Frames are float16, or int8 with the size of a step for each dimension in ``NAME.steps.npy``: half
the disk for an error 41 dB below the frames. The index is renamed into place last, so a shard
either is complete or does not exist.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from a2p_engine.errors import TrainingError

FRAME_RATE_HZ = 50  # of Whisper's encoder

Frames = npt.NDArray[np.float16]
Storage = Literal["float16", "int8"]


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
        frames: number of rows.
        terms: terms that the data list for it.
        seeds: whether these are words from which training makes phrases.
        frame_rate_hz: of the encoder: 50 for Whisper, 25 for Qwen2-Audio.
    """

    id: str
    text: str
    phonemes: str
    voice: str
    seed: int
    start: int
    frames: int
    terms: tuple[str, ...] = ()
    seeds: bool = False
    frame_rate_hz: int = FRAME_RATE_HZ

    def __post_init__(self) -> None:
        # JSON knows lists only.
        object.__setattr__(self, "terms", tuple(self.terms))


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """Frames of a shard, memory-mapped until a slice of them is read.

    Attributes:
        rows: float16, or int8 in steps; [T, D].
        steps: float32 [D], what 1 stands for in each dimension of int8 rows; None for float16.
    """

    rows: npt.NDArray[np.float16] | npt.NDArray[np.int8]
    steps: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> npt.NDArray[np.float32]:
        """Frames of a slice, float32 [n, D]."""
        rows = self.rows[part].astype(np.float32)
        return rows if self.steps is None else rows * self.steps


def write_shard(
    path: Path,
    frames: Sequence[Frames],
    utterances: Sequence[Utterance],
    storage: Storage = "float16",
) -> None:
    """Write the frames and then the index, each under a temporary name first."""
    rows = np.concatenate(frames) if frames else np.zeros((0, 1), np.float16)
    if storage == "int8":
        steps = np.abs(rows).max(axis=0, initial=0).astype(np.float32) / 127
        steps[steps == 0] = 1
        _save(path, ".steps.npy", steps)
        _save(path, ".npy", np.round(rows / steps).astype(np.int8))
    else:
        _save(path, ".npy", rows)
    partial = path.with_suffix(".partial")
    lines = (json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in utterances)
    partial.write_text("".join(lines), "utf-8")
    os.replace(partial, path.with_suffix(".jsonl"))


def _save(path: Path, suffix: str, array: npt.NDArray[np.generic]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    os.replace(partial, path.with_suffix(suffix))


def is_complete(path: Path) -> bool:
    """Whether the shard was written to its end."""
    return path.with_suffix(".jsonl").exists()


def read_shards(directory: Path) -> Iterator[tuple[StoredFrames, list[Utterance]]]:
    """Complete shards of a directory in order.

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
        frames = _open_frames(array)
        if utterances and utterances[-1].start + utterances[-1].frames > len(frames):
            raise TrainingError(f"{index} promises more frames than {array.name} holds")
        yield frames, utterances
    if not found:
        raise TrainingError(f"no complete shard in {directory}")


def _open_frames(array: Path) -> StoredFrames:
    rows = np.load(array, mmap_mode="r")
    if rows.dtype == np.float16:
        return StoredFrames(rows)
    return StoredFrames(rows, np.load(array.with_suffix(".steps.npy")))
