"""Published sets become shards of frames with their terms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.audio import read_audio
from a2p_engine.encoders import build_encoder
from a2p_engine.errors import AudioError
from a2p_engine.published import frames
from a2p_engine.published.frames import FrameMaker, FramesPlan, make_frames
from a2p_engine.training.shards import read_shards
from streaming.cli import main
from tests.a2p_engine.published.sets import entry, write_json, write_tar

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three utterances, one in an archive."""
    speech = read_audio(RECORDING)
    for name, start in (("a", 0), ("b", 3), ("c", 6)):
        part = speech[start * 16_000 : (start + 2) * 16_000]
        soundfile.write(tmp_path / f"{name}.wav", part, 16_000)
    write_tar(tmp_path / "t.tar", {"c.wav": (tmp_path / "c.wav").read_bytes()})
    pairs = [{"en": "heart", "zh": "心"}]
    entries = [
        entry(id="a", en="GOOD MORNING BED FOUR", hints={"en": ["MORNING", "BED"], "zh": []}),
        entry(id="b", wav_path="b.wav", en="a racing heart", hints=pairs),
        entry(id="c", tar_path="t.tar", tar_info="c.wav", en="to apixaban"),
    ]
    write_json(tmp_path / "set.json", entries)
    return tmp_path


def test_frames_text_and_terms_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a plain file and of an archive; shards that are there are not made again."""
    monkeypatch.setattr(frames, "_SHARD_UTTERANCES", 2)
    plan = FramesPlan(data=folder / "set.json", language="en", device="cpu")
    entries = frames._entries(plan)
    encoder = build_encoder("whisper-base", "cpu", 1)
    maker = FrameMaker(plan, folder, entries, encoder)
    maker.make(0, 2)
    maker.make(2, 3)
    (_, two), (second, one) = read_shards(folder)
    assert [u.id for u in (*two, *one)] == ["a", "b", "c"]
    assert [u.terms for u in (*two, *one)] == [("MORNING", "BED"), ("heart",), ("apixaban",)]
    assert [u.seeds for u in (*two, *one)] == [True, False, False]
    assert [u.frames for u in (*two, *one)] == [100, 100, 100]
    heard = encoder.encode(read_audio(folder / "c.wav")).frames
    np.testing.assert_allclose(second[0:100], heard, atol=0.02, rtol=2e-3)
    assert two[0].phonemes.count("ɹ") == 2 and "mˈɔɹ" in two[0].phonemes  # read, not spelled


def test_an_interrupted_run_goes_on(folder: Path) -> None:
    """What is missing is made by processes of their own, and then nothing is missing."""
    plan = FramesPlan(data=folder / "set.json", language="zh", device="cpu", storage="int8")
    assert make_frames(plan, folder / "out") == 1
    assert make_frames(plan, folder / "out") == 0
    ((stored, said),) = read_shards(folder / "out")
    assert stored.steps is not None
    assert [u.text for u in said] == ["每天服用阿哌沙班"] * 3
    assert [u.phonemes for u in said] == ["", "", ""]


def test_a_missing_recording_is_named(folder: Path) -> None:
    """And no shard is half made."""
    (folder / "b.wav").unlink()
    plan = FramesPlan(data=folder / "set.json", language="en", device="cpu")
    with pytest.raises(AudioError, match=r"b\.wav: no such file"):
        make_frames(plan, folder / "out")
    assert list((folder / "out").iterdir()) == []


def test_the_published_recipe_runs_from_set_to_figures(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames, two stages by published configurations, and the published evaluation of the head."""
    shape = {
        "n_embed": 512,
        "retriever_n_head": 8,
        "attn_pdrop": 0.1,
        "retriever_merge_type": "add",
        "retriever_audio_word_fc": False,
        "audio_lang": "en",
    }
    learn = {
        "epochs": 8,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "intial_learning_rate": 1e-7,
        "num_warmup_steps": 2,
        "max_term_banks": 100,
        "pharse_type": False,
        "betas": [0.9, 0.98],
        "num_workers": 8,
    }
    training = str(write_json(folder / "train.json", shape | learn))
    inference = write_json(folder / "infer.json", shape | {"infer_task": "asr", "topk": 2})
    entries = [
        {**value, "hints": [{"en": term} for term in value["hints"]["en"]]}
        if isinstance(value["hints"], dict)
        else value
        for value in json.loads((folder / "set.json").read_text())
    ]
    data, bank = folder / "test.json", folder / "bank.json"
    write_json(data, entries)
    write_json(bank, {"en": ["MORNING", "BED", "heart", "apixaban", *map(str, range(100, 130))]})
    frames_at, out = str(folder / "frames"), folder / "head"
    assert main(["frames", str(folder / "set.json"), "-l", "en", "-o", frames_at]) == 0
    assert main(["train", training, "-d", frames_at, "--dev", frames_at, "-o", str(out)]) == 0
    head = str(out / "a2p_head.safetensors")
    write_json(folder / "next.json", shape | learn | {"epochs": 1, "pharse_type": True})
    second = ["train", str(folder / "next.json"), "-d", frames_at, "--dev", frames_at]
    out = folder / "next"
    assert main([*second, "-o", str(out), "--start", head]) == 0
    command = ["eval", "published", "-c", str(inference), "--data", str(data), "--prompts", ""]
    command += ["--terms", str(bank), "--speech-llm", "whisper-base", "--retriever", str(out)]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    figures = {
        one["depth"]: one["published"] for one in json.loads(capsys.readouterr().out)["retrieval"]
    }
    assert figures[5] > 0.6  # it has learnt these three by heart; chance gives 5 of 34
