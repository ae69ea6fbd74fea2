"""Frames on disk: complete or absent, float16 or int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from a2p_engine.errors import TrainingError
from a2p_engine.training.data import FrameData
from a2p_engine.training.shards import (
    Frames,
    Storage,
    Utterance,
    is_complete,
    read_shards,
    write_shard,
)


def _line(name: str = "a", start: int = 0, frames: int = 3) -> Utterance:
    return Utterance(id=name, text="a", phonemes="ə", voice="v", seed=1, start=start, frames=frames)


def _frames(count: int, seed: int = 0) -> Frames:
    """Like an encoder's: some dimensions are a hundred times others, one is silent."""
    scales = np.array([0.0, 0.1, 1.0, 10.0])
    rows = np.random.default_rng(seed).standard_normal((count, 4)) * scales
    return rows.astype(np.float16)


@pytest.mark.parametrize(("storage", "error"), [("float16", 0.0), ("int8", 0.5)])
def test_frames_come_back_within_half_a_step(
    tmp_path: Path, storage: Storage, error: float
) -> None:
    """float16 is exact; int8 is off by half of what 1 stands for in its dimension, at most."""
    first, second = _frames(5), _frames(7, seed=1)
    lines = [_line("a", 0, 5), _line("b", 5, 7)]
    write_shard(tmp_path / "shard", [first, second], lines, storage)
    data = FrameData([tmp_path])
    assert data.utterances == lines
    rows = np.concatenate([first, second]).astype(np.float32)
    step = np.abs(rows).max(0) / 127
    for number, written in enumerate((first, second)):
        read = data.frames(number).numpy()
        assert read.dtype == np.float32
        assert read.shape == written.shape
        assert (np.abs(read - written) <= error * step * 1.001).all()


def test_int8_takes_half_the_disk(tmp_path: Path) -> None:
    """A byte for each number, and one row of steps."""
    frames = _frames(2_000)
    for storage in ("float16", "int8"):
        write_shard(tmp_path / storage, [frames], [_line(frames=2_000)], storage)
    sizes = [(tmp_path / name).with_suffix(".npy").stat().st_size for name in ("float16", "int8")]
    assert sizes == [128 + 16_000, 128 + 8_000]


def test_directories_may_hold_both_forms(tmp_path: Path) -> None:
    """Data added later may be stored otherwise, even where a shard is made again."""
    for number, storage in enumerate(("int8", "float16", "int8")):
        write_shard(tmp_path / f"{number}", [_frames(3)], [_line(str(number))], storage)
    write_shard(tmp_path / "2", [_frames(3)], [_line("2")], "float16")
    data = FrameData([tmp_path])
    exact = _frames(3).astype(np.float32)
    assert [bool((data.frames(n).numpy() == exact).all()) for n in range(3)] == [False, True, True]


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_shard_of_nothing_is_complete(tmp_path: Path, storage: Storage) -> None:
    """Every utterance of it may have been too long or too short."""
    write_shard(tmp_path / "empty", [], [], storage)
    assert is_complete(tmp_path / "empty")
    assert [(len(frames), index) for frames, index in read_shards(tmp_path)] == [(0, [])]


def test_a_shard_without_its_index_does_not_exist(tmp_path: Path) -> None:
    """What a kill leaves behind is neither read nor taken for complete."""
    write_shard(tmp_path / "whole", [np.ones((3, 4), np.float16)], [_line()])
    np.save(tmp_path / "broken.npy", np.ones((3, 4), np.float16))
    (tmp_path / "other.partial").write_bytes(b"half")
    assert is_complete(tmp_path / "whole")
    assert not is_complete(tmp_path / "broken")
    assert [index for _, index in read_shards(tmp_path)] == [[_line()]]


def test_an_index_that_promises_too_much_is_an_error(tmp_path: Path) -> None:
    """Damaged data are noticed before training."""
    write_shard(tmp_path / "bad", [np.ones((3, 4), np.float16)], [_line(frames=9)])
    with pytest.raises(TrainingError, match="promises more frames"):
        list(read_shards(tmp_path))
    with pytest.raises(TrainingError, match="no complete shard"):
        list(read_shards(tmp_path / "nowhere"))
