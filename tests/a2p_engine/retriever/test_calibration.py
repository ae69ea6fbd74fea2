"""Probability from evidence: what it rewards, what sound-alikes share, and how it is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import ModelError
from a2p_engine.retriever.calibration import (
    FINAL,
    MOST_SYMBOLS,
    SIEVE,
    Calibration,
    Network,
    Weights,
    claimed,
    heard_features,
    probabilities,
    sound_features,
)

CALIBRATION = Calibration(
    sieve=Weights(heard=(0.5,) * (len(SIEVE) + 1), read=(0.25,) * (len(SIEVE) + 1)),
    final=Network(
        linear=(-1.0,) * (len(FINAL) + 1),
        hidden=((0.1,) * (len(FINAL) + 1), (0.2,) * (len(FINAL) + 1)),
        output=(1.5, -0.5),
    ),
    thresholds={"cautious": 0.6, "balanced": 0.2, "eager": 0.1},
    terms_per_s=0.5,
    source="a test",
)

logits_and_places = st.lists(
    st.tuples(st.floats(-30, 30, width=32), st.integers(0, 20), st.integers(1, 9)), max_size=12
)


def _floats(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


def _ints(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def _shared(rows: list[tuple[float, int, int]]) -> npt.NDArray[np.float32]:
    logits, start, length = zip(*rows, strict=True) if rows else ((), (), ())
    texts = [f"term{number}" for number in range(len(rows))]
    claims = claimed(texts, _ints(*start), _ints(*start) + _ints(*length))
    return probabilities(_floats(*logits), claims)


@given(logits_and_places)
def test_no_more_than_one_term_is_said_at_a_place(rows: list[tuple[float, int, int]]) -> None:
    """Candidates that claim the very same audio share one probability."""
    same = [(logit, 5, 4) for logit, *_ in rows]
    found = _shared(same)
    assert found.shape == (len(rows),)
    assert 0 <= found.sum() <= 1 + 1e-5
    assert _shared([*same, (50.0, 5, 4)])[-1] > 0.99


@given(logits_and_places)
def test_the_order_of_candidates_does_not_matter(rows: list[tuple[float, int, int]]) -> None:
    """Nor does a rival ever make a term more probable than it is alone."""
    found = _shared(rows)
    np.testing.assert_allclose(_shared(rows[::-1])[::-1], found, rtol=1e-4)
    alone = [float(_shared([row])[0]) for row in rows]
    assert all(found <= _floats(*alone) * (1 + 1e-5))


@pytest.mark.parametrize("logit", [-50.0, -3.0, 0.0, 2.5, 100.0])
def test_without_rivals_it_is_a_logistic_regression(logit: float) -> None:
    """A neighbour that does not touch the term's audio takes nothing from it."""
    found = _shared([(logit, 10, 5), (3.0, 15, 5), (3.0, 5, 5)])
    assert found[0] == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)


def test_what_is_switched_off_has_no_probability_and_no_rights() -> None:
    """Its logit is -inf; all of them may be off."""
    on, off = _shared([(1.0, 0, 9), (-np.inf, 0, 9)])
    assert (on, off) == (pytest.approx(1 / (1 + np.exp(-1))), 0.0)
    assert _shared([(-np.inf, 0, 9)]).tolist() == [0.0]


def test_a_rival_takes_as_much_as_it_claims() -> None:
    """A half of a long term claims nothing of it, most of it something; it claims all of them."""
    share = claimed(["whole", "first", "most"], _ints(0, 0, 0), _ints(20, 10, 17))
    np.testing.assert_allclose(share, [[1, 0, 0.5], [1, 1, 1], [1, 0, 1]], atol=1e-6)
    whole, half, most = _shared([(0.0, 0, 20), (0.0, 0, 10), (0.0, 0, 17)])
    assert (whole, half, most) == tuple(pytest.approx(1 / n) for n in (2.5, 4, 3))


def test_neighbours_that_share_some_audio_are_no_rivals() -> None:
    """Both may be said; each is as probable as it is alone."""
    found = _shared([(6.0, 0, 10), (1.0, 6, 10)])
    assert found.tolist() == pytest.approx([1 / (1 + np.exp(-6)), 1 / (1 + np.exp(-1))], rel=1e-5)


def test_a_term_within_another_is_no_rival() -> None:
    """Both are said at once, unless the shorter one is but a part of a word."""
    texts = ["iced mocha", "Mocha", "moc", "ice mocha"]
    share = claimed(texts, _ints(0, 6, 6, 0), _ints(10, 10, 8, 10))
    assert share[0].tolist() == [1, 0, 0, 1]
    assert share[1].tolist() == [0, 1, 0, 0]
    assert share[2].tolist() == [1, 1, 1, 1]


def test_spellings_of_one_term_are_no_rivals() -> None:
    """Each is as probable as it is alone; symbols without a letter are another term each."""
    texts = ["rosuvastatin", "Rosuvastatin", "rosu-vastatin", "pravastatin"]
    share = claimed(texts, _ints(0, 0, 0, 0), _ints(10, 10, 10, 10))
    assert share.tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    found = probabilities(_floats(2, 2, 2, -np.inf), share)
    assert found[:3].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 3)
    assert claimed(["--", "..", "C", "C++"], _ints(0, 0, 0, 0), _ints(5, 5, 5, 5)).all()


def test_text_decides_which_weights_are_used() -> None:
    """Features and the intercept, by whether the audio was written down."""
    weights = Weights(heard=(1.0, 0.0, -2.0), read=(0.0, 3.0, 1.0))
    logits = weights.logits(_floats(4, 5, 4, 5).reshape(2, 2), np.array([False, True]))
    assert logits.tolist() == [2.0, 16.0]


def test_a_network_is_linear_but_for_its_hidden_units() -> None:
    """W x + v tanh(W x), each with an intercept; none of them is needed."""
    rows = np.zeros((2, len(FINAL)), np.float32)
    rows[1, 0] = 3.0
    ones = (0.0,) * (len(FINAL) - 1)
    plain = Network(linear=(2.0, *ones, -1.0), hidden=(), output=())
    assert plain.logits(rows).tolist() == [-1.0, 5.0]
    bent = Network(linear=(2.0, *ones, -1.0), hidden=((1.0, *ones, 0.5),), output=(4.0,))
    expected = [-1 + 4 * np.tanh(0.5), 5 + 4 * np.tanh(3.5)]
    assert bent.logits(rows).tolist() == pytest.approx(expected)


def test_a_term_that_matches_nowhere_has_finite_features() -> None:
    """Neither an infinite cost nor an impossible alignment leaves the regression."""
    heard = heard_features(_floats(np.inf, 6), _ints(4, 3), _floats(0.5, 1))
    assert heard.tolist() == [[5, 4, 0.5], [2, 3, 1]]
    sound = sound_features(_floats(-np.inf, -6), _ints(4, 3))
    assert sound.tolist() == [[-60, -8], [-6, -2]]


def test_a_long_term_that_fits_badly_does_not_look_like_one_that_fits() -> None:
    """A symbol of it costs what a symbol of a short term costs; beyond a length all are as long."""
    heard = heard_features(_floats(243, 28), _ints(86, 10), _floats(0, 0))
    assert heard[0].tolist() == [pytest.approx(243 / 86), MOST_SYMBOLS, 0]
    sound = sound_features(_floats(-240, -28), _ints(86, 10))
    assert sound[:, 1].tolist() == pytest.approx([-240 / 86, -2.8])


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    """The file carries everything."""
    CALIBRATION.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == CALIBRATION


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"features": ["other"]}', '{"features": {"sieve": 1, "final": []}}']
)
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, text: str) -> None:
    """Damaged files and those of other features name the file."""
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"c\.json"):
        Calibration.load(path)


ROW = [0.0] * (len(FINAL) + 1)


@pytest.mark.parametrize(
    "part",
    [
        [1.0, 2.0],
        {"linear": [1.0], "hidden": [], "output": []},
        {"linear": ROW, "hidden": [ROW], "output": []},
        {"linear": ROW, "hidden": [ROW[1:]], "output": [1.0]},
        {"linear": ROW, "hidden": "many", "output": []},
        {"linear": ROW, "hidden": [], "output": [], "other": []},
    ],
)
def test_weights_that_do_not_go_with_the_features_are_an_error(
    tmp_path: Path, part: object
) -> None:
    """One for each feature and an intercept, one for each hidden unit."""
    path = tmp_path / "c.json"
    CALIBRATION.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "final": part}))
    with pytest.raises(ModelError, match=r"cannot read calibration .*c\.json"):
        Calibration.load(path)


def test_a_file_without_one_of_the_thresholds_is_an_error(tmp_path: Path) -> None:
    """The names are those that sessions may ask for."""
    path = tmp_path / "c.json"
    replace(CALIBRATION, thresholds={"balanced": 0.2}).save(path)
    with pytest.raises(ModelError, match=r"c\.json: .* cautious, balanced, eager"):
        Calibration.load(path)


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), "often", None])
def test_a_file_with_an_impossible_rate_is_an_error(tmp_path: Path, rate: object) -> None:
    """It is divided by."""
    path = tmp_path / "c.json"
    CALIBRATION.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "terms_per_s": rate}))
    with pytest.raises(ModelError, match=r"c\.json"):
        Calibration.load(path)


def test_a_threshold_is_a_number_or_a_name() -> None:
    """A number stands for itself, a name for what was trained."""
    assert CALIBRATION.threshold(0.3) == 0.3
    assert CALIBRATION.threshold("eager") == 0.1
