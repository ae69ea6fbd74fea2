"""Biasing lists: read, drawn, spoken in a voice each, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import TrainingError
from a2p_engine.manifest import read_manifest
from a2p_engine.training import voiced_lists
from a2p_engine.training.voiced_lists import ListedUtterance, read_lists, voice_lists
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

LISTS = [
    ("1-1-0001", "SPEAK OF THE BANTI'S HARBOUR", ["banti's", "harbour", "banti's"], ["quill"]),
    ("1-1-0002", "nothing rare in here", [], ["quill", "voussoir"]),
    ("2-7-0001", "an MRI at last", ["MRI"], []),
    ("2-7-0002", "the last of them", [], []),
]


class Tone:
    """A voice that hums as long as what it is given, at a pitch of its own."""

    def __init__(self, name: str, hz: float) -> None:
        self.name = name
        self._hz = hz

    def speak(self, phonemes: str, rng: np.random.Generator) -> Samples:
        """200 samples a symbol, and a little more or less."""
        length = int(len(phonemes) * 200 * rng.uniform(0.9, 1.1))
        time_s = np.arange(length) / SAMPLE_RATE_HZ
        return (0.5 * np.sin(2 * np.pi * self._hz * time_s)).astype(np.float32)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A file of four utterances."""
    path = tmp_path / "lists.tsv"
    rows = ("\t".join((i, t, json.dumps(r), json.dumps(d))) for i, t, r, d in LISTS)
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Voices that hum, and workers in this process; returns the names that are asked for."""
    names: list[Sequence[str]] = []

    def voices(_: Path, chosen: Sequence[str]) -> list[Tone]:
        names.append(chosen)
        return [Tone(name, 200.0 * (n + 1)) for n, name in enumerate(chosen)]

    def run(
        work: Callable[[Any], None],
        items: Sequence[Any],
        *,
        start: Callable[..., None],
        arguments: tuple[Any, ...],
        processes: int,
        unit: str,
    ) -> None:
        assert (processes, unit) == (1, "recording")
        start(*arguments)
        for item in items:
            work(item)

    monkeypatch.setattr(voiced_lists, "kokoro_voices", voices)
    monkeypatch.setattr(voiced_lists, "run_side_by_side", run)
    monkeypatch.setattr(voiced_lists, "_speaker", None)
    monkeypatch.setattr(voiced_lists, "_out", Path())
    return names


def _voice(lists: Path, out: Path, **options: Any) -> int:
    return voice_lists(lists, out=out, voice_model=out, processes=1, **options)


def test_lists_are_read_with_each_rare_word_once(lists: Path) -> None:
    """Order stays; distractors may be left out; what is all in capitals is read in lower case."""
    with lists.open("a") as file:
        file.write('3-1-0001\tno distractors\t["no"]\n')
    found = read_lists(lists)
    assert len(found) == 5
    assert found[0] == ListedUtterance(
        id="1-1-0001",
        text="speak of the banti's harbour",
        rare=("banti's", "harbour"),
        distractors=("quill",),
    )
    assert found[4].distractors == ()


@pytest.mark.parametrize(
    "line",
    ["id", "id\ttext", "id\ttext\trare", 'id\ttext\t["a"]\t{', 'id\ttext\t"word"', "id\ttext\t5"],
)
def test_a_line_of_another_form_is_named(lists: Path, line: str) -> None:
    """Too few columns, no JSON, and JSON that is no list."""
    with lists.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match="line 5: expected tab-separated"):
        read_lists(lists)


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and an empty one."""
    with pytest.raises(TrainingError, match="cannot read"):
        read_lists(tmp_path / "absent.tsv")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(TrainingError, match="holds no text"):
        read_lists(tmp_path / "empty.tsv")


def test_every_utterance_is_spoken_and_listed(
    lists: Path, tmp_path: Path, asked: list[Sequence[str]]
) -> None:
    """The manifest has audio, text and rare words; the voices are those held out of training."""
    out = tmp_path / "out"
    assert _voice(lists, out) == 4
    assert asked == [tuple(sorted(voiced_lists.HELD_OUT_VOICES))]
    recordings = {recording.id: recording for recording in read_manifest(out / "manifest.jsonl")}
    assert set(recordings) == {row[0] for row in LISTS}
    assert recordings["1-1-0001"].terms == ("banti's", "harbour")
    assert recordings["1-1-0002"].terms == ()
    for identifier, text, *_ in LISTS:
        assert recordings[identifier].text == (text.lower() if text.isupper() else text)
        audio, rate_hz = soundfile.read(recordings[identifier].audio)
        assert rate_hz == SAMPLE_RATE_HZ
        assert len(audio) > 100 * len(text)
    assert not list(out.rglob("*.partial"))


def test_voicing_goes_on_where_it_was(
    lists: Path, tmp_path: Path, asked: list[Sequence[str]]
) -> None:
    """More utterances add to fewer, whole recordings stay, and the result is as in one go."""
    out, straight = tmp_path / "out", tmp_path / "straight"
    assert _voice(lists, out, utterances=2, seed=5) == 2
    few = [recording.id for recording in read_manifest(out / "manifest.jsonl")]
    first = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    (out / "audio" / "2-7-0002.partial").write_bytes(b"half a recording")
    assert _voice(lists, out, seed=5) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert [recording.id for recording in read_manifest(out / "manifest.jsonl")][:2] == few
    assert _voice(lists, straight, seed=5) == 4
    for path in (straight / "audio").iterdir():
        assert (out / "audio" / path.name).read_bytes() == path.read_bytes()
    manifests = [(at / "manifest.jsonl").read_text() for at in (out, straight)]
    assert manifests[0] == manifests[1]
    assert _voice(lists, out, seed=5) == 0


def test_the_seed_chooses_utterances_and_voices(
    lists: Path, tmp_path: Path, asked: list[Sequence[str]]
) -> None:
    """Another seed draws others; named voices are used as given."""
    drawn = set()
    for seed in range(8):
        out = tmp_path / str(seed)
        _voice(lists, out, utterances=1, seed=seed, voices=["one", "two"])
        [recording] = read_manifest(out / "manifest.jsonl")
        audio, _ = soundfile.read(recording.audio)
        pitch_hz = np.abs(np.fft.rfft(audio)).argmax() * SAMPLE_RATE_HZ / len(audio)
        drawn.add((recording.id, round(pitch_hz / 200)))
    assert asked == [("one", "two")] * 8
    assert len({identifier for identifier, _ in drawn}) > 1
    assert {pitch for _, pitch in drawn} == {1, 2}


@given(st.lists(st.text("abcˈə", min_size=1, max_size=20), min_size=1, max_size=300))
def test_long_texts_are_cut_between_words(words: list[str]) -> None:
    """Nothing is lost, and no part is more than Kokoro reads at once."""
    parts = voiced_lists._parts(" ".join(words))
    assert " ".join(parts) == " ".join(words)
    assert all(len(part) <= 509 for part in parts)
    assert len(parts) <= len(" ".join(words)) // 400 + 1
