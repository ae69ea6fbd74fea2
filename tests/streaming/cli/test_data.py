"""The commands about data: voiced lists, overlap, reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from a2p_engine.engine import WEIGHTS
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.training.shards import Utterance, write_shard
from streaming.cli import main


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """A directory of one shard that says one thing."""
    line = Utterance(
        id="1", text="whole milk, she said", phonemes="a", voice="me", seed=1, start=0, frames=1800
    )
    (tmp_path / "data").mkdir()
    write_shard(tmp_path / "data" / "shard", [np.zeros((1_800, 1), np.float16)], [line])
    return tmp_path / "data"


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a command that must fail."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def test_voicing_lists_checks_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing and malformed lists and missing voices are one line each."""
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    (tmp_path / "kokoro-82m").mkdir()
    lists, out = tmp_path / "lists.tsv", ("--out", tmp_path / "out")
    assert "absent.tsv" in _fails(capsys, "voice-lists", "absent.tsv", *out)
    lists.write_text("1\tno words\n")
    assert "lists.tsv, line 1: expected" in _fails(capsys, "voice-lists", lists, *out)


def test_a_voice_that_is_missing_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason comes out of the worker that could not start."""
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path))
    (tmp_path / "kokoro-82m").mkdir()
    lists = tmp_path / "lists.tsv"
    lists.write_text("1\tsome words\t[]\t[]\n")
    command = ["voice-lists", str(lists), "-o", str(tmp_path / "out"), "-j", "1"]
    assert main([*command, "--voices", "zz_nobody"]) == 1
    error = capfd.readouterr().err
    assert "zz_nobody" in error
    assert "Traceback" not in error


def test_overlap_is_nil_or_exit_code_1(
    spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A term that was spoken is listed; common words alone are not terms."""
    terms, common = tmp_path / "terms.txt", tmp_path / "common.txt"
    common.write_text("milk\n")
    command = ["overlap", "--data", str(spoken), "--terms", str(terms), "--common", str(common)]
    terms.write_text("soy milk\n")
    assert main(command) == 0
    assert capsys.readouterr().out == f"{spoken} (1 utterances): nil of 2 terms spoken\n"
    terms.write_text("soy milk\nWhole milk\n")
    assert main(command) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("2 of 4 terms spoken")
    assert printed[1:] == ["  whole (1)", "  whole milk (1)"]
    assert main([*command, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["terms"] == 4
    assert report["sources"][0]["spoken"] == {"whole": 1, "whole milk": 1}


def test_overlap_with_the_shipped_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What they have heard is known by word: of a phrase of such words nothing can be said."""
    weights, terms = WEIGHTS / WhisperSpeechLLM.retriever_weights, tmp_path / "terms.txt"
    terms.write_text("qqqq\nthe of\n")
    common = tmp_path / "common.txt"
    common.write_text("the\nof\n")
    command = ["overlap", "--weights", str(weights), "--terms", str(terms), "--common", str(common)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "(words of training): nil of 2 terms spoken" in printed
    assert "not known, each word was spoken: the of" in printed


def test_overlap_writes_what_to_exclude(
    spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds what would be looked for; without anything to do the command says so."""
    terms, excluded = tmp_path / "terms.txt", tmp_path / "excluded.txt"
    terms.write_text("Whole milk\nlatte\n")
    assert main(["overlap", "--terms", str(terms), "--write", str(excluded)]) == 0
    assert excluded.read_text().splitlines() == ["latte", "milk", "whole", "whole milk"]
    assert capsys.readouterr().out == ""
    assert "--lists, --manifest or --terms" in _fails(capsys, "overlap", "--data", spoken)
    assert "--data or --weights, or --write" in _fails(capsys, "overlap", "--terms", terms)
    nowhere = tmp_path / "absent" / "excluded.txt"
    line = _fails(capsys, "overlap", "--terms", terms, "--write", nowhere)
    assert f"cannot write {nowhere}" in line


def test_data_report_adds_up(spoken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hours, utterances, words and voices, to read or as JSON."""
    assert main(["data-report", str(spoken), str(spoken)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["0.0 hours, 2 utterances", "8 words, 4 different ones", "  me: 0.02 hours"]
    assert main(["data-report", str(spoken), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["voices"] == {"me": 0.01}
    assert "no complete shard" in _fails(capsys, "data-report", spoken.parent / "absent")
