"""Recall of retrieval on the shipped weights, and its bookkeeping."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.training.evaluate import (
    Found,
    Offered,
    RetrievalReport,
    calibration_error,
    evaluate_retrieval,
)
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
    assert [(offer.term, offer.spoken) for offer in report.offered] == [("Poundmaker", True)]
    assert summary["offered"]["precision"] == summary["offered"]["recall"] == 1.0
    assert json.loads((spoken / "dump.jsonl").read_text())["rank"] == 1


def test_what_is_offered_is_judged() -> None:
    """Precision and calibration are of the offers, recall is of the spoken terms."""
    found = tuple(Found(id="a", term=term, rank=1, trained=False) for term in ("x", "y"))
    offered = tuple(
        Offered(id="a", term=term, probability=probability, spoken=term == "x")
        for term, probability in (("x", 0.95), ("z", 0.35), ("w", 0.25), ("v", 0.25))
    )
    report = RetrievalReport(
        utterances=2, glossary_terms=9, not_in_glossary=0, seconds_per_query=0.1,
        found=found, threshold=0.2, offered=offered,
    )  # fmt: skip
    assert report.summary()["offered"] == {
        "threshold": 0.2,
        "n": 4,
        "per_utterance": 2.0,
        "precision": 0.25,
        "recall": 0.5,
        "calibration_error": pytest.approx((0.05 + 0.35 + 0.5) / 4),
    }


def test_calibration_error_knows_over_and_underconfidence() -> None:
    """Errors within one bin cancel, those of different bins add up; 1.0 is in the last bin."""
    right = calibration_error(np.array([0.25, 0.25, 0.25, 0.25]), np.array([1, 0, 0, 0], bool))
    assert right == 0.0
    wrong = calibration_error(np.array([1.0, 0.05]), np.array([False, True]))
    assert wrong == pytest.approx((1.0 + 0.95) / 2)


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
