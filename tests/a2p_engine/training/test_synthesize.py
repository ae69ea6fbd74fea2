"""Synthesis: resumable, repeatable, nothing held out is spoken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.encoders.base import Encoded
from a2p_engine.errors import TrainingError
from a2p_engine.training.shards import read_shards
from a2p_engine.training.synthesize import ShardMaker, SynthesisPlan, synthesize
from a2p_engine.training.texts import TrainingText
from a2p_engine.training.voices import HibariVoice
from a2p_engine.types import Samples

SENTENCES = ["the quick brown fox jumps over the lazy dog", "she sells sea shells by the sea shore"]


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


def _maker(out: Path, **options: object) -> ShardMaker:
    words = out / "rare.txt"
    out.mkdir(parents=True, exist_ok=True)
    words.write_text("fox\nshells\n")
    plan = SynthesisPlan(text=words, rare_words=words, model=out, **options)  # type: ignore[arg-type]
    return ShardMaker(
        plan,
        out,
        lines=TrainingText(SENTENCES, ["apixaban"], seed=plan.seed),
        voices=[HibariVoice(vary=plan.augment)],
        encoder=Loudness(),
    )


def test_a_shard_is_the_same_whoever_makes_it(tmp_path: Path) -> None:
    """Frames and index depend on seed and numbers alone."""
    for name in ("one", "two"):
        _maker(tmp_path / name).make(4, 7)
    (one, index), (two, other) = (next(read_shards(tmp_path / n)) for n in ("one", "two"))
    assert index == other
    assert len(index) == 3
    assert [u.start for u in index] == [0, *np.cumsum([u.frames for u in index])[:-1].tolist()]
    np.testing.assert_array_equal(one[:], two[:])
    assert one.rows.dtype == np.float16


def test_takes_of_an_utterance_share_words_and_differ_in_sound(tmp_path: Path) -> None:
    """A slow voice speaks once and is degraded several times."""
    _maker(tmp_path, takes=2).make(0, 1)
    frames, (first, second) = next(read_shards(tmp_path))
    assert first.text == second.text
    assert first.id != second.id
    one, two = frames[: first.frames], frames[first.frames :]
    assert not np.array_equal(one, two)


def test_kept_audio_comes_with_a_manifest(tmp_path: Path) -> None:
    """One flac and one line per utterance, rare words as terms."""
    _maker(tmp_path, keep_audio=True, augment=False).make(0, 6)
    parts = [part.read_text().splitlines() for part in tmp_path.glob("*.manifest")]
    lines = [json.loads(line) for part in parts for line in part]
    assert len(lines) == 6
    for line in lines:
        audio, rate_hz = soundfile.read(tmp_path / line["audio"])
        assert rate_hz == 16_000
        assert len(audio) > 5_000
        assert line["terms"] == sorted({"fox", "shells"}.intersection(line["text"].split()))


def test_an_endless_split_needs_a_number(tmp_path: Path) -> None:
    """Training text has no end of its own."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"sentence {'and more ' * 5}number {i}" for i in range(400)))
    with pytest.raises(TrainingError, match="how many"):
        synthesize(SynthesisPlan(text=text, model=tmp_path), out=tmp_path / "out", processes=1)
