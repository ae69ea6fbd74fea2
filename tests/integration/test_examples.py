"""Every example runs as its first lines say, on real weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming.cli.local_server import local_server

ROOT = Path(__file__).parents[2]
RECORDING = "examples/data/ward_round.flac"


def _run(example: str, *arguments: str) -> str:
    command = [sys.executable, f"examples/{example}.py", RECORDING, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_file_is_transcribed_without_a_server() -> None:
    """Captions with the terms that were written."""
    assert "written: empagliflozin" in _run("transcribe_file")


@pytest.mark.slow
def test_the_retriever_alone() -> None:
    """Terms turn up in the tick after they were said."""
    assert "warfarin 0." in _run("retrieve_terms")


@pytest.mark.slow
def test_live_captions_grow() -> None:
    """Partials with a volatile tail, then finals."""
    with local_server(["--glossary", "ward=examples/data/medical_terms.txt"]) as url:
        shown = _run("live_captions", url)
    assert "…" in shown and "rosuvastatin at night." in shown


@pytest.mark.slow
def test_terms_learnt_in_mid_stream_count() -> None:
    """The answer to the edit is shown, and a later sentence has the term right."""
    with local_server() as url:
        shown = _run("edit_glossary", url)
    assert "(glossary version 2: 3 terms)" in shown
    assert "levetiracetam" in shown
