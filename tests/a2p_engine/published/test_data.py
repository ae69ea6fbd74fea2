"""Published sets and term banks: every form that is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from a2p_engine.errors import AudioError, GlossaryError, InputError
from a2p_engine.published.data import Moved, read_bank, read_entries
from tests.a2p_engine.published.sets import RATE_HZ, entry, pitch, tone, wav, write_json, write_tar

BOTH = ("en", "zh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A wav file and an archive with two."""
    soundfile.write(tmp_path / "a.wav", tone(500), RATE_HZ)
    write_tar(tmp_path / "part.tar", {"x/one.wav": wav(1000), "x/two.wav": wav(1500)})
    return tmp_path


def _read(folder: Path, *values: object, languages: Any = BOTH) -> Any:
    return read_entries(write_json(folder / "set.json", list(values)), languages)


def test_hints_by_language_are_words_that_phrases_begin_with(folder: Path) -> None:
    """Texts and terms of both languages are read."""
    (one,) = _read(folder, entry())
    assert one.id == "u1"
    assert one.texts == {"en": "take apixaban daily", "zh": "每天服用阿哌沙班"}
    assert one.terms == {"en": ("apixaban",), "zh": ("阿哌沙班",)}
    assert one.seeds


def test_hints_in_pairs_are_terms_as_they_are(folder: Path) -> None:
    """Their order and repeats stay."""
    pairs = [{"en": "b", "zh": "乙"}, {"en": "a", "zh": "甲"}, {"en": "b", "zh": "乙"}]
    (one,) = _read(folder, entry(hints=pairs))
    assert one.terms == {"en": ("b", "a", "b"), "zh": ("乙", "甲", "乙")}
    assert not one.seeds


def test_only_what_is_asked_for_must_be_there(folder: Path) -> None:
    """A set in English needs no Chinese; other keys do not matter."""
    (one,) = _read(folder, entry(zh=None, hints={"en": []}, duration=3.5), languages=("en",))
    assert (one.texts, one.terms) == ({"en": "take apixaban daily"}, {"en": ()})


def test_what_has_no_id_is_called_by_its_path(folder: Path) -> None:
    """The published evaluation names utterances so; a number becomes a string."""
    assert _read(folder, entry(id=None))[0].id == "a.wav"
    assert _read(folder, entry(id=7))[0].id == "7"


def test_audio_lies_beside_the_set_and_is_resampled(folder: Path) -> None:
    """16 kHz, mono, float32."""
    samples = _read(folder, entry())[0].audio.read()
    assert samples.dtype == np.float32
    assert len(samples) == RATE_HZ  # half a second
    assert pitch(samples) == pytest.approx(500, abs=5)


def test_audio_in_an_archive_is_read_from_it(folder: Path) -> None:
    """The member that is named; words hinted there stay words at every stage."""
    values = [
        entry(wav_path=None, tar_path="part.tar", tar_info=f"x/{n}.wav") for n in ("two", "one")
    ]
    two, one = _read(folder, *values)
    assert pitch(two.audio.read()) == pytest.approx(1500, abs=5)
    assert pitch(one.audio.read()) == pytest.approx(1000, abs=5)
    assert not two.seeds


def test_published_paths_can_be_moved(folder: Path) -> None:
    """The first that fits replaces the beginning; others stay."""
    values = [entry(wav_path="/pathtodata/a.wav"), entry(tar_path="/other/p.tar", tar_info="m")]
    path = write_json(folder / "set.json", values)
    moved = [Moved("/pathtodata", str(folder)), Moved("/path", "/nowhere")]
    first, second = read_entries(path, ["en"], moved)
    assert first.audio.path == folder / "a.wav"
    assert str(second.audio) == "/other/p.tar:m"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"en": None}, r"entry 0 \(u1\): 'en' must be a string"),
        ({"en": "  "}, r"entry 0 \(u1\): 'en' must be a string"),
        ({"zh": 3}, r"entry 0 \(u1\): 'zh' must be a string"),
        ({"wav_path": None}, r"entry 0 \(u1\): 'wav_path' must be a string"),
        ({"wav_path": ["a.wav"]}, r"entry 0 \(u1\): 'wav_path' must be a string"),
        ({"id": None, "wav_path": None}, "entry 0: 'id' must be a string or a number"),
        ({"id": [1]}, "entry 0: 'id' must be a string or a number"),
        ({"tar_path": "part.tar"}, r"entry 0 \(u1\): 'tar_info' must be a string"),
        ({"tar_path": 1, "tar_info": "m"}, r"entry 0 \(u1\): 'tar_path' must be a string"),
        ({"tar_info": "x/one.wav"}, r"entry 0 \(u1\): 'tar_info' needs 'tar_path'"),
        ({"hints": None}, r"'hints' must hold terms in 'en'"),
        ({"hints": {"en": ["a"]}}, r"'hints' must hold terms in 'zh'"),
        ({"hints": {"en": "apixaban", "zh": []}}, r"'hints' must hold terms in 'en'"),
        ({"hints": {"en": [""], "zh": []}}, r"'hints' must hold terms in 'en'"),
        ({"hints": [{"en": "a", "zh": "甲"}, {"en": "b"}]}, r"'hints' must hold terms in 'zh'"),
        ({"hints": ["apixaban"]}, r"'hints' must hold terms in 'en'"),
    ],
)
def test_a_bad_entry_is_refused_by_name(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    """Which entry, which key and what is accepted."""
    with pytest.raises(InputError, match=message):
        _read(folder, entry(**changes))


@pytest.mark.parametrize("text", ["[]", "{}", '["a"]', "[", "null"])
def test_what_is_no_set_is_refused(folder: Path, text: str) -> None:
    """The file is named."""
    path = folder / "set.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"set\.json"):
        read_entries(path, BOTH)


def test_missing_files_are_named(folder: Path) -> None:
    """Sets, recordings, archives and members."""
    with pytest.raises(InputError, match=r"none\.json: No such file"):
        read_entries(folder / "none.json", BOTH)
    with pytest.raises(AudioError, match=r"none\.wav"):
        _read(folder, entry(wav_path="none.wav"))[0].audio.read()
    with pytest.raises(AudioError, match=r"none\.tar: No such file"):
        _read(folder, entry(tar_path="none.tar", tar_info="m"))[0].audio.read()
    with pytest.raises(AudioError, match=r"part\.tar holds no regular file 'x/three\.wav'"):
        _read(folder, entry(tar_path="part.tar", tar_info="x/three.wav"))[0].audio.read()


def test_a_member_that_is_no_audio_is_named(folder: Path) -> None:
    """With its archive."""
    write_tar(folder / "bad.tar", {"m.wav": b"nothing of the kind"})
    with pytest.raises(AudioError, match=r"bad\.tar:m\.wav cannot be read as audio"):
        _read(folder, entry(tar_path="bad.tar", tar_info="m.wav"))[0].audio.read()


def test_a_term_bank_keeps_places_and_repeats(tmp_path: Path) -> None:
    """What stands at one place means the same, also twice."""
    bank = {"en": ["latte", "drip", "latte"], "zh": ["拿铁", "滴滤", "拿鐵"]}
    path = write_json(tmp_path / "bank.json", bank)
    found = read_bank(path, BOTH)
    assert len(found) == 3
    assert found.terms == {"en": ("latte", "drip", "latte"), "zh": ("拿铁", "滴滤", "拿鐵")}
    assert read_bank(path, ["zh"]).terms == {"zh": ("拿铁", "滴滤", "拿鐵")}


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        ({"en": ["a", "b"], "zh": ["甲"]}, "equally long; there are 2 in 'en', 1 in 'zh'"),
        ({"en": ["a"]}, "'zh' must be a list of strings"),
        ({"en": [], "zh": []}, "'en' must be a list of strings, with one at least"),
        ({"en": ["a", 1], "zh": ["甲", "乙"]}, "'en' must be a list of strings"),
        ({"en": ["a", " "], "zh": ["甲", "乙"]}, "'en' is empty at place 1"),
        (["a"], "an object with a list for each language"),
    ],
)
def test_a_bad_term_bank_is_refused(tmp_path: Path, bank: object, message: str) -> None:
    """The language and the place are named."""
    path = tmp_path / "bank.json"
    path.write_text(json.dumps(bank))
    with pytest.raises(GlossaryError, match=rf"bank\.json.*{message}"):
        read_bank(path, BOTH)
