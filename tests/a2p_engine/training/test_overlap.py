"""Overlap of training speech and evaluation: found when it is there, nil when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from a2p_engine.errors import A2PError, ModelError, TrainingError
from a2p_engine.training.overlap import (
    overlap_with_shards,
    overlap_with_weights,
    terms_of_evaluation,
)
from a2p_engine.training.report import report_data
from a2p_engine.training.shards import Utterance, write_shard
from a2p_engine.training.terms import SPOKEN_WORDS, write_spoken_words

SAID = ["The whole, milk is for John.", "he said whole wheat milk", "John's latte. A latte"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards of three utterances."""
    directory = tmp_path / "data"
    directory.mkdir()
    for number, texts in enumerate((SAID[:2], SAID[2:])):
        lines = [
            Utterance(
                id=text,
                text=text,
                phonemes="ə",
                voice=text[:4],
                seed=1,
                start=9_000 * n,
                frames=9_000,
            )
            for n, text in enumerate(texts)
        ]
        frames = [np.zeros((9_000, 1), np.float16) for _ in texts]
        write_shard(directory / str(number), frames, lines)
    return directory


def test_terms_come_from_lists_manifests_and_files(tmp_path: Path) -> None:
    """Terms stay whole; of a phrase, the words that are not common stand alone as well."""
    lists, manifest, file = (tmp_path / n for n in ("lists.tsv", "manifest.jsonl", "terms.txt"))
    rare = json.dumps(["banti's", "Quill"])
    lists.write_text("\t".join(("1", "a text", rare, "[]")))
    manifest.write_text(json.dumps({"id": "a", "audio": "a.flac", "terms": ["John Dashwood"]}))
    file.write_text("the whole-milk\n\nespresso\n")
    everything = {"lists": [lists], "manifests": [manifest], "files": [file]}
    found = terms_of_evaluation(**everything, common=["whole", "the", "espresso"])
    assert found == [
        "banti's", "dashwood", "espresso", "john", "john dashwood", "milk", "quill",
        "the whole milk",
    ]  # fmt: skip
    assert set(terms_of_evaluation(**everything)) - set(found) == {"the", "whole"}
    assert terms_of_evaluation() == []


def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Whichever they are."""
    for source in ("lists", "manifests", "files"):
        with pytest.raises(A2PError, match="absent"):
            terms_of_evaluation(**{source: [tmp_path / "absent"]})
    with pytest.raises(TrainingError, match="no complete shard"):
        overlap_with_shards(["a"], tmp_path)
    with pytest.raises(ModelError, match="words spoken in training"):
        overlap_with_weights(["a"], tmp_path)


def test_what_an_abbreviation_stands_for_is_spoken(tmp_path: Path) -> None:
    """In the shards, and in the words that heads trained on them have heard."""
    text = "The Rev. W. Bailey, Jr., said so."
    line = Utterance(id="1", text=text, phonemes="ə", voice="v", seed=1, start=0, frames=9_000)
    directory = tmp_path / "data"
    directory.mkdir()
    write_shard(directory / "0", [np.zeros((9_000, 1), np.float16)], [line])
    found = overlap_with_shards(["reverend", "junior", "bailey junior", "senior"], directory)
    assert found.spoken == {"bailey junior": 1, "junior": 1, "reverend": 1}
    write_spoken_words(tmp_path / SPOKEN_WORDS, [text])
    assert overlap_with_weights(["reverend", "rev", "senior"], tmp_path).spoken == {
        "reverend": 1, "rev": 1,
    }  # fmt: skip


def test_spoken_terms_are_counted_by_utterance(data: Path) -> None:
    """Phrases need their words next to each other, and a possessive is not its noun."""
    terms = ["whole milk", "latte", "john", "johns", "milk is", "wheat", "milk whole"]
    found = overlap_with_shards(terms, data)
    assert found.texts == 3
    assert found.spoken == {"john": 1, "latte": 1, "milk is": 1, "wheat": 1, "whole milk": 1}
    assert found.undecided == ()
    assert overlap_with_shards(["espresso", "wheat whole"], data).spoken == {}


def test_words_of_training_decide_about_words_only(tmp_path: Path) -> None:
    """Of a phrase they can say that it was not spoken, but not that it was."""
    write_spoken_words(tmp_path / SPOKEN_WORDS, SAID)
    found = overlap_with_weights(["wheat", "johns", "whole wheat", "soy milk"], tmp_path)
    assert found.spoken == {"wheat": 1}
    assert found.undecided == ("whole wheat",)


def test_a_report_adds_up_directories(data: Path) -> None:
    """Hours by voice, utterances and words."""
    report = report_data([data, data])
    assert report.hours == pytest.approx(0.3)
    assert report.utterances == 6
    assert report.voices == pytest.approx({"John": 0.1, "The ": 0.1, "he s": 0.1})
    assert report.running_words == 2 * 15
    assert report.distinct_words == 12
