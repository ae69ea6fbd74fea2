"""Synthesis: resumable, repeatable, nothing held out is spoken."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.errors import TrainingError
from a2p_engine.training import synthesize as synthesis
from a2p_engine.training.shards import read_shards
from a2p_engine.training.synthesize import ShardMaker, SynthesisPlan, synthesize
from a2p_engine.training.texts import TrainingText
from a2p_engine.training.voices import HibariVoice
from tests.a2p_engine.training import loud_synthesis

SENTENCES = ["the quick brown fox jumps over the lazy dog", "she sells sea shells by the sea shore"]


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
        encoder=loud_synthesis.Loudness(),
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


def _text(directory: Path) -> Path:
    """Enough sentences to hold some out."""
    path = directory / "text.txt"
    path.write_text("\n".join(f"sentence {'and more ' * 5}number {i}" for i in range(400)))
    return path


@pytest.mark.slow
def test_a_killed_synthesis_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole shards stay, half ones are made again, and all are as if nothing had happened."""
    text, out = _text(tmp_path), tmp_path / "out"
    count, lines = 24, loud_synthesis.SHARD_LINES
    program = [sys.executable, "-m", "tests.a2p_engine.training.loud_synthesis"]
    command = [*program, str(text), str(out), str(count), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        while not list(out.glob("*.jsonl")):
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
        first.communicate(timeout=20)  # returns when no worker is left
    whole = {path: path.stat().st_mtime_ns for path in out.glob("*.jsonl")}
    assert 0 < len(whole) < count // lines
    (out / f"hibari-train-{count - lines:07d}.npy").write_bytes(b"half of a shard")
    (out / f"hibari-train-{count - lines:07d}.partial").write_bytes(b"half of an index")
    again = subprocess.run(command, capture_output=True, check=True, text=True)
    assert int(again.stdout) == count // lines - len(whole)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    monkeypatch.setattr(synthesis, "_maker", None)
    loud_synthesis.start_worker(loud_synthesis.plan(text, count), tmp_path / "straight")
    (tmp_path / "straight").mkdir()
    for start in range(0, count, lines):
        synthesis._run_worker((start, start + lines))
    for (one, index), (two, other) in zip(
        read_shards(out), read_shards(tmp_path / "straight"), strict=True
    ):
        assert index == other
        np.testing.assert_array_equal(one[:], two[:])
    assert not list(out.glob("*.partial"))


def test_an_endless_split_needs_a_number(tmp_path: Path) -> None:
    """Training text has no end of its own."""
    text = _text(tmp_path)
    with pytest.raises(TrainingError, match="how many"):
        synthesize(SynthesisPlan(text=text, model=tmp_path), out=tmp_path / "out", processes=1)


@pytest.mark.parametrize(("first", "count"), [(0, 101), (64, 64), (100, None)])
def test_no_more_is_spoken_than_was_held_out(tmp_path: Path, first: int, count: int | None) -> None:
    """Asking for more says how much there is."""
    plan = SynthesisPlan(
        text=_text(tmp_path), model=tmp_path, split="dev", first=first, utterances=count
    )
    with pytest.raises(TrainingError, match="dev has 100 sentences"):
        synthesize(plan, out=tmp_path / "out", processes=1)


def test_held_out_sentences_are_cut_around_excluded_words(tmp_path: Path) -> None:
    """The longest part without any is spoken; a part of a few words is left out."""
    sentences = tmp_path / "sentences.txt"
    tails = ["one two three four five six seven eight", "one two three harbour four five six seven"]
    made = [f"sentence {number} says {tails[number % 2]}" for number in range(400)]
    sentences.write_text("\n".join(made))
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("harbour\nfive six\n")
    plan = SynthesisPlan(text=sentences, model=tmp_path, split="dev", exclude=exclude)
    spoken = synthesis._lines(plan)
    assert isinstance(spoken, list) and len(spoken) == 100
    kinds = {line.text.split(" says ")[-1] for line in spoken}
    assert kinds == {"one two three four five", "one two three"}
    exclude.write_text("says\nthree\n")
    left = synthesis._lines(plan)
    assert isinstance(left, list)
    assert {line.text for line in left} == {
        "four five six seven eight", "harbour four five six seven"
    }  # fmt: skip
