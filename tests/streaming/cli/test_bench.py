"""The command ``a2p bench scorer``: figures as JSON or as tables, one line for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streaming.cli import main

# A machine that only measures has torch, numba, numpy, typer, rich and what they need.
NOT_NEEDED = {
    *("ctranslate2", "faster_whisper", "hibari", "hibari_tts", "transformers", "tokenizers"),
    *("onnxruntime", "webrtcvad", "sounddevice", "soundfile", "soxr"),
    *("websockets", "starlette", "uvicorn", "aiomqtt", "jiwer", "matplotlib"),
}
SCRIPT = """
import sys
from streaming.cli import main
code = main(["bench", "scorer", "--json", *sys.argv[1:]])
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def finished() -> subprocess.CompletedProcess[str]:
    """A small run in a process of its own; the last line of its errors are its modules."""
    options = ["--terms", "200", "--sessions", "1,2", "--repeat", "2", "--device", "cpu"]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *options], capture_output=True, text=True, check=True
    )


@pytest.fixture(scope="module")
def report(finished: subprocess.CompletedProcess[str]) -> Any:
    """What it printed."""
    return json.loads(finished.stdout)


def test_no_model_library_is_imported(finished: subprocess.CompletedProcess[str]) -> None:
    """Measuring needs neither an encoder nor a server."""
    loaded = set(finished.stderr.splitlines()[-1].split())
    assert "torch" in loaded
    assert not NOT_NEEDED & loaded


def test_json_says_what_was_measured_and_where(report: Any) -> None:
    """Date, options, shape, machine, versions and rates."""
    assert report["benchmark"] == "scorer"
    assert report["date"].startswith("20")
    assert report["options"]["terms"] == [200]
    assert report["options"]["sessions"] == [1, 2]
    assert report["preset"] == {
        "name": "whisper-base",
        "width": 512,
        "heads": 8,
        "vocabulary": 51_865,
    }
    assert report["machine"]["device"] == "cpu"
    assert {"python", "torch", "numba"} <= set(report["machine"]["versions"])
    assert report["rates"]["copy_bytes_per_s"] > 1e8
    assert report["rates"]["matmul_flop_per_s"] > 1e8


def test_bytes_are_those_of_the_formula(report: Any) -> None:
    """Queries once, two states read and written, tokens, offsets, biases, scores."""
    (glossary,) = report["glossaries"]
    tokens, entries = glossary["tokens"], round(200 * glossary["tokens_per_term"])
    (step,) = (
        s for s in glossary["steps"] if s["name"] == "live tick 0.5 s" and s["sessions"] == 2
    )
    queries = tokens * 512 * 4
    states = 2 * tokens * 8 * 8 * 2
    expected = queries + states + 4 * entries + 4 * 201 + 4 * 200 + 2 * 4 * 200
    assert step["cost"]["bytes"] == expected
    assert step["cost"]["flop"] == 2 * tokens * 38 * (2 * 512 + 8)


def test_figures_are_sane(report: Any) -> None:
    """Accurate, timed, and slower than the floor; the dense form is slower still."""
    (glossary,) = report["glossaries"]
    assert glossary["accuracy"]["score"] < 1e-4
    assert glossary["accuracy"]["log_prob"] < 1e-4
    assert len(glossary["steps"]) == 7
    for step in glossary["steps"]:
        assert 0 < step["floor_ms"]
        assert 0 < step["timing"]["p50_ms"] <= step["timing"]["p95_ms"]
        assert step["timing"]["runs"] == 2
    assert glossary["edits"]["edits"] >= 1
    assert glossary["memory"]["token_table_bytes"] >= glossary["tokens"] * 512 * 4
    assert report["dense"][0]["to_tick"] > 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--terms", "0"], "--terms 0: takes 1 to 10,000,000"),
        (["--terms", "abc"], "--terms abc: takes whole numbers separated by commas"),
        (["--terms", "10,"], "--terms 10,: takes whole numbers"),
        (["--sessions", "1,0"], "--sessions 0: takes 1 to"),
        (["--preset", "gpt"], "unknown preset 'gpt'; there are whisper-base, qwen2-audio"),
        (["--plot", "absent/ticks.png"], "cannot write absent/ticks.png: there is no such"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, nothing measured."""
    assert main(["bench", "scorer", *options]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert complaint in captured.err


def test_a_missing_plotting_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured."""
    from a2p_engine.bench import scorer

    monkeypatch.setattr(scorer, "run", lambda *_: pytest.fail("it measures"))
    monkeypatch.delattr("a2p_engine.bench.plot", raising=False)
    monkeypatch.delitem(sys.modules, "a2p_engine.bench.plot", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "scorer", "--plot", str(tmp_path / "ticks.png")]) == 1
    line = capsys.readouterr().err
    assert "pip install 'a2p-live[train]'" in line
    assert line.count("\n") == 1


def test_tables_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options reach the benchmark; header, tables and what was left out are shown."""
    import torch

    from a2p_engine.bench import edits, presets, rates

    tiny = presets.Preset(name="tiny", width=32, heads=4, vocabulary=3_000)
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny)
    monkeypatch.setattr(edits, "RUNNING_S", 0.1)
    monkeypatch.setitem(rates.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(rates.PRODUCT_SIZE, "cpu", 64)
    picture = tmp_path / "ticks.png"
    options = ["--preset", "tiny", "--terms", "40,10001", "--sessions", "3", "--repeat", "2"]
    options += ["--threads", "1", "--device", "cpu", "--dense", "never", "--plot", str(picture)]
    before = torch.get_num_threads()
    try:
        assert main(["bench", "scorer", *options]) == 0
    finally:
        torch.set_num_threads(before)
    text = capsys.readouterr().out
    assert text.startswith("tiny: width 32, 4 heads, vocabulary 3,000; 20")
    assert " 1 threads; python 3." in text
    rows = [line.split() for line in text.splitlines()]
    assert sum(row[:1] == ["10,001"] for row in rows) == 4 + 5
    assert sum(row[2:6] == ["3", "live", "tick", "0.5"] for row in rows) == 2
    assert text.count("left out: not asked for") == 2
    assert picture.read_bytes().startswith(b"\x89PNG")
