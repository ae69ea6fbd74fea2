"""Probability from evidence: what it rewards, how it is kept, and that fitting finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from a2p_engine.errors import ModelError, TrainingError
from a2p_engine.retriever.calibration import Background, Calibration, sigmoid
from a2p_engine.retriever.retriever import Heard
from a2p_engine.retriever.spotter import Matches
from a2p_engine.training.calibrate import fit_calibration
from a2p_engine.training.shards import Utterance, write_shard

BACKGROUND = Background(mean=(0.0, 2.2, -1.0), deviation=(0.2, 0.2, 0.2))
CALIBRATION = Calibration(
    background=BACKGROUND,
    weights=(0.5, -1.0, 0.3),
    bias=-7.0,
    thresholds={"cautious": 0.6, "balanced": 0.2, "eager": 0.1},
    source="a test",
)


def _logits(cost: list[float], length: list[int], gain: list[float]) -> list[float]:
    return CALIBRATION.logits(
        np.array(cost, np.float32), np.array(length, np.int32), np.array(gain, np.float32)
    ).tolist()


def test_the_same_cost_says_more_of_a_long_term() -> None:
    """Three phonemes fit somewhere by chance, twelve do not."""
    short, long = _logits([3.0, 3.0], [3, 12], [0.0, 0.0])
    assert long > short + 3


def test_less_cost_and_more_gain_are_more_probable() -> None:
    """Each piece of evidence pulls its way; no match at all is as good as impossible."""
    good, worse, without_gain, never = _logits(
        [1.0, 6.0, 1.0, np.inf], [8, 8, 8, 8], [1.0, 1.0, -1.0, 1.0]
    )
    assert good > worse > never
    assert good > without_gain
    assert sigmoid(np.array([never], np.float32))[0] < 0.001


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    """The file carries everything."""
    CALIBRATION.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == CALIBRATION


@pytest.mark.parametrize("text", ["", "{}", '{"features": ["other"]}'])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    """Damaged files and those of other features name the file."""
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"c\.json"):
        Calibration.load(path)


def test_a_file_without_one_of_the_thresholds_is_an_error(tmp_path: Path) -> None:
    """The names are those that sessions may ask for."""
    path = tmp_path / "c.json"
    replace(CALIBRATION, thresholds={"balanced": 0.2}).save(path)
    with pytest.raises(ModelError, match=r"c\.json: .* cautious, balanced, eager"):
        Calibration.load(path)


def test_a_threshold_is_a_number_or_a_name() -> None:
    """A number stands for itself, a name for what was trained."""
    assert CALIBRATION.threshold(0.3) == 0.3
    assert CALIBRATION.threshold("eager") == 0.1


class _Retriever:
    """Spoken words match cheaply, the others as badly as the background says."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.words: list[str] = []
        self.texts = iter(())

    def index(self, terms: list) -> None:
        self.words = [term.text for term in terms]

    def evidence(self, index: None, frames: np.ndarray) -> Heard:
        length = np.array([len(word) for word in self.words], np.int32)
        cost = self.rng.normal(2.2 * length - np.sqrt(length), 0.5 + 0.2 * length)
        spoken = np.array([int(frames[0, 0]) == number // 2 for number in range(len(length))])
        cost[spoken] = self.rng.exponential(1.0, spoken.sum())
        place = np.zeros(len(length), np.int32)
        match = Matches(np.maximum(cost, 0).astype(np.float32), place, place)
        return Heard(np.arange(len(length)), length, match, np.zeros(len(length), np.float32))


def _shards(tmp_path: Path) -> Path:
    words = sorted(f"{a}{b}{'x' * n}" for a in "abcde" for b in "pqrst" for n in (3, 6))
    (tmp_path / "rare.txt").write_text("\n".join([*words, *(f"zz{'y' * n}" for n in range(3, 99))]))
    frames, utterances = [], []
    for number in range(len(words) // 2):
        frames.append(np.full((4, 8), number, np.float16))
        utterances.append(
            Utterance(
                id=str(number), text=f"say {words[2 * number]} and {words[2 * number + 1]}",
                phonemes="", voice="v", seed=0, start=4 * number, frames=4,
            )
        )  # fmt: skip
    write_shard(tmp_path / "s-0000000.npy", frames, utterances)
    return tmp_path


def test_fitting_tells_spoken_from_not_spoken(tmp_path: Path) -> None:
    """The fit finds the background's curves and separates the two kinds of terms."""
    data = _shards(tmp_path)
    fit = fit_calibration(
        [_Retriever()], data=[data], rare_words=data / "rare.txt", glossary_size=146
    )
    assert fit.background.mean[1] == pytest.approx(2.2, abs=0.3)
    good, bad = fit.logits(
        np.array([1.0, 12.0], np.float32), np.array([8, 8], np.int32), np.zeros(2, np.float32)
    )
    assert good > 2 > -2 > bad
    eager, balanced, cautious = map(fit.threshold, ("eager", "balanced", "cautious"))
    assert 0.0 < eager <= balanced <= cautious < 1.0


def test_words_spoken_in_training_do_not_count(tmp_path: Path) -> None:
    """With all of them left out there is nothing to fit on, and that is said."""
    data = _shards(tmp_path)
    words = (data / "rare.txt").read_text().split()
    with pytest.raises(TrainingError, match="no utterance of the data contains a word"):
        fit_calibration([_Retriever()], data=[data], rare_words=data / "rare.txt", trained=words)
