"""``a2p eval`` and ``a2p glossary draw``: options, tables, JSON and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from a2p_engine.engine import EngineSettings
from a2p_engine.evaluation import compare, prompt_forms, retrieval_run, translation
from a2p_engine.evaluation.bootstrap import Estimate
from a2p_engine.evaluation.compare import Compared, Comparison
from a2p_engine.evaluation.compare_report import SystemResult
from a2p_engine.evaluation.prompt_forms import ComparedForms, Form, FormResult
from a2p_engine.evaluation.retrieval import Condition, Offer, Spoken, Trial
from a2p_engine.evaluation.retrieval_report import results
from a2p_engine.evaluation.retrieval_run import Report, Request
from a2p_engine.manifest import Recording
from a2p_engine.types import Term
from streaming.cli import common, main
from streaming.evaluation import nonspeech as evaluate_nonspeech
from tests.streaming.fake_engine import FakeEngine


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings that say three terms."""
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16_000)
    entries = [
        {"id": "a", "audio": "a.wav", "text": "call fain about apixaban", "terms": ["Fain"]},
        {"id": "b", "audio": "a.wav", "text": None, "terms": ["latte", "light roast"]},
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A list with a word that is said."""
    path = tmp_path / "words.txt"
    path.write_text("apixaban\nvoussoir\nbamboozle\nkaleidoscope\n")
    return path


def _error(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    assert main([str(part) for part in command]) == 1
    return capsys.readouterr().err.strip()


def test_a_glossary_is_drawn(
    manifest: Path, words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Spoken terms, then words that nobody says, then made-up ones; larger hold smaller ones."""
    command = ["glossary", "draw", str(manifest), "--words", str(words), "--size"]
    assert main([*command, "5"]) == 0
    small = capsys.readouterr().out.splitlines()
    assert small[:3] == ["Fain", "latte", "light roast"]
    assert set(small[3:]) < {"voussoir", "bamboozle", "kaleidoscope"}
    assert main([*command, "9", "-o", str(tmp_path / "nine.txt")]) == 0
    large = (tmp_path / "nine.txt").read_text().splitlines()
    assert large[:5] == small
    assert len(set(large)) == 9
    assert "apixaban" not in large


def test_what_cannot_be_drawn_is_said(
    manifest: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    found = _error(capsys, "glossary", "draw", manifest, "-w", words, "--size", 2)
    assert "2 terms cannot hold the 3 that are spoken" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --glossary or --distractors"),
        (["--sizes", "10,many"], "--sizes 10,many: takes numbers separated by commas"),
        (["--sizes", "0"], "--sizes 0: takes whole numbers from 1 on"),
        (["--snr", "clean,loud"], "--snr loud: takes numbers separated by commas"),
    ],
)
def test_wrong_options_are_named(
    options: list[str],
    message: str,
    manifest: Path,
    words: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before any model is loaded."""
    given = ["--distractors", str(words), *options] if options else []
    assert message in _error(capsys, "eval", "retrieval", "-m", manifest, *given)


def test_a_glossary_file_is_nobodys_own(
    manifest: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that would be ignored are refused."""
    given = ["-m", manifest, "-g", words, "--own-lists"]
    assert "--own-lists takes --distractors" in _error(capsys, "eval", "compare", *given)


def _report() -> Report:
    offer = Offer(term="Fain", probability=0.9, at=("any", "balanced"), spoken=True, listed=True)
    spoken = Spoken(
        term="Fain", ranks={"calibrated": 12, "spotter": 7}, kinds=("single_word",), rival=1
    )
    trial = Trial(
        id="a", condition="clean", size=1000, audio_s=36.0, step_s=(0.25,), missing=3,
        spoken=(spoken,), offers=(offer,),
    )  # fmt: skip
    return Report(settings={"seed": 4}, results=tuple(results([trial], {"balanced": 0.5})))


def test_retrieval_is_asked_as_the_options_say(
    manifest: Path,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And its report is a table, or JSON."""
    asked: list[tuple[list[Recording], Request]] = []

    def run(recordings: list[Recording], request: Request, progress: object) -> Report:
        asked.append((recordings, request))
        return _report()

    monkeypatch.setattr(retrieval_run, "run", run)
    command = ["eval", "retrieval", "-m", str(manifest), "-m", str(manifest), "--limit", "1"]
    command += ["--distractors", str(words), "--sizes", "1000,5", "--seed", "4", "--own-lists"]
    command += ["--snr", "clean,10", "--noise", "white", "--stages", "--ticks", "0.5"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert "3 spoken terms are not in the glossary" in table
    assert re.search(r"^1,000  clean +1 +0 +1 *$", table, re.MULTILINE)
    assert "spotter alone" in table and "balanced 0.50" in table
    ((recordings, request),) = asked
    assert [recording.id for recording in recordings] == ["a", "a"]
    assert list(request.glossaries.sizes) == [1000, 5]
    assert (request.glossaries.own_lists, request.glossaries.seed) == (True, 4)
    assert request.search.conditions == (Condition(), Condition(snr_db=10.0))
    assert (request.search.noise, request.search.stages, request.search.tick_s) == (
        "white", True, 0.5
    )  # fmt: skip
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"seed": 4}


def test_a_comparison_is_a_table_or_json(
    manifest: Path, words: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates in percent with their intervals, a dash where there is none."""
    rate, none = Estimate(0.05, 0.04, 0.0625), Estimate(None)
    result = SystemResult(
        size=2000, system="first_terms", wer=rate, u_wer=rate, b_wer=rate, u_wer_change=rate,
        b_wer_ratio=rate, oracle_share=none, term_recall=rate, false_insertions=3,
        false_per_hour=rate, added_per_hour=rate, prompted=9.5, seconds=0.25,
    )  # fmt: skip
    asked: list[Comparison] = []

    def run(recordings: object, comparison: Comparison, progress: object) -> Compared:
        asked.append(comparison)
        return Compared(settings={"recordings": ["a"]}, results=(result,))

    monkeypatch.setattr(compare, "run", run)
    command = ["eval", "compare", "-m", str(manifest), "--distractors", str(words)]
    assert main([*command, "--systems", "ours,oracle", "--threshold", "eager", "--no-terms"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("2,000  first terms  5.00 (4.00-6.25)")
    assert "  -  " in row
    assert asked[0].systems == ("ours", "oracle")
    assert (asked[0].threshold, asked[0].no_terms) == ("eager", True)
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["results"][0]
    assert record["b_wer"] == {"value": 0.05, "low": 0.04, "high": 0.0625}


def test_forms_of_prompts_are_a_table_or_json(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each form; what was asked for reaches the comparison."""
    rate = Estimate(0.05, 0.04, 0.0625)
    result = FormResult(
        form=Form("sentence", "said_and_wrong", True), wer=rate, wer_change=rate, u_wer=rate,
        b_wer=Estimate(None), false_insertions=3, again=1, seconds=0.25,
    )  # fmt: skip
    asked: list[prompt_forms.Request] = []

    def run(
        recordings: object, request: prompt_forms.Request, progress: object
    ) -> prompt_forms.ComparedForms:
        asked.append(request)
        return ComparedForms(request=request, recordings=("a",), results=(result,))

    monkeypatch.setattr(prompt_forms, "run", run)
    command = ["eval", "prompts", "-m", str(manifest), "--wrong", "4", "--piece", "5"]
    assert main([*command, "--seed", "2"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("said and wrong  earlier text + sentence  5.00 (4.00-6.25)")
    assert row.split()[-4:] == ["-", "3", "1", "0.25"]
    assert (asked[0].wrong, asked[0].piece_s, asked[0].seed) == (4, 5.0, 2)
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"]["recordings"] == ["a"] and report["settings"]["wrong"] == 4
    assert report["results"][0]["wording"] == "sentence" and report["results"][0]["again"] == 1


def test_translations_are_a_table_or_json(
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A row for each system; the glossary brings its targets."""
    asked: list[tuple[object, ...]] = []
    result = translation.Translated(
        system="oracle", bleu=31.256, chrf=55.0, signature="nrefs:1", targets=4, written=3,
        texts={"a": "Hällo"},
    )  # fmt: skip

    def run(recordings: object, settings: EngineSettings, *rest: object) -> list[Any]:
        asked.append((settings, *rest))
        return [result]

    monkeypatch.setattr(translation, "run", run)
    (tmp_path / "g.csv").write_text("term,target\nictus,stroke\n")
    command = ["eval", "translation", "-m", str(manifest), "-g", str(tmp_path / "g.csv")]
    assert main([*command, "--to", "zh", "--threshold", "0.2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "oracle", "31.3", "55.0", "75.0", "3", "of", "4"
    ]  # fmt: skip
    settings, terms, target, threshold, _ = asked[0]
    assert isinstance(settings, EngineSettings) and settings.speech_llm == "whisper-base"
    assert (terms, target, threshold) == ([Term(text="ictus", target="stroke")], "zh", 0.2)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["texts"] == {"a": "Hällo"}


def test_nonspeech_shows_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each sound."""
    monkeypatch.setattr(common, "load_engine", lambda *_: FakeEngine())
    monkeypatch.setattr(evaluate_nonspeech, "_MINUTE_SAMPLES", 16_000)
    (tmp_path / "terms.txt").write_text("apixaban\n")
    command = ["eval", "nonspeech", "-g", str(tmp_path / "terms.txt"), "--minutes", "1"]
    assert main([*command, "--vad", "energy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "silence", "white", "kitchen", "babble", "music"
    ]  # fmt: skip
    assert lines[1].split()[1:] == ["1", "0", "0", "-"]
    assert main([*command, "--vad", "energy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sound"] == "silence"
