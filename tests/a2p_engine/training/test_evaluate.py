"""Recall of retrieval on the shipped weights, and its bookkeeping."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.training.evaluate import Found, RetrievalReport, evaluate_retrieval
from a2p_engine.training.voices import HibariVoice


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of one recording with two terms, one of them not in the glossary."""
    folder = tmp_path_factory.mktemp("spoken")
    audio = HibariVoice(vary=False).speak(
        "plˈiz kˈɔl dˈɑktəɹ pˈWndmAkəɹ tədˈA.", np.random.default_rng(1)
    )
    soundfile.write(folder / "one.flac", audio, 16_000)
    record = {"id": "one", "audio": "one.flac", "text": None, "terms": ["poundmaker", "today"]}
    (folder / "manifest.jsonl").write_text(json.dumps(record) + "\n\n")
    words = ["Poundmaker", "apixaban", "voussoir", "quixotic", "kaleidoscope", "bamboozle"]
    (folder / "glossary.txt").write_text("\n".join(words))
    return folder


def test_a_spoken_term_ranks_first(spoken: Path) -> None:
    """Case does not matter, other spoken terms are counted as missing from the glossary."""
    report = evaluate_retrieval(
        manifest=spoken / "manifest.jsonl",
        glossary=spoken / "glossary.txt",
        device="cpu",
        dump=spoken / "dump.jsonl",
    )
    assert [(hit.term, hit.rank) for hit in report.found] == [("Poundmaker", 1)]
    summary = report.summary()
    assert summary["glossary_terms"] == 6
    assert summary["not_in_glossary"] == 1
    assert report.seconds_per_query > 0
    assert json.loads((spoken / "dump.jsonl").read_text())["rank"] == 1


def test_recall_is_counted_for_all_and_for_terms_never_spoken() -> None:
    """Shares at each depth; none where there is nothing to count."""
    found = tuple(
        Found(id="a", term=str(rank), rank=rank, trained=rank < 10) for rank in (1, 4, 12, 60)
    )
    report = RetrievalReport(
        utterances=1, glossary_terms=99, not_in_glossary=0, seconds_per_query=0.1, found=found
    )
    summary = report.summary()
    assert summary["all_terms"] == {
        "n": 4,
        "recall": {"1": 0.25, "5": 0.5, "10": 0.5, "20": 0.75, "50": 0.75},
    }
    assert summary["terms_never_spoken_in_training"] == {
        "n": 2,
        "recall": {"1": 0.0, "5": 0.0, "10": 0.0, "20": 0.5, "50": 0.5},
    }
