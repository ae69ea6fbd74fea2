"""Exact CTC scores: the compiled form against torch's own, and what it adds up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.ops.ctc_forward import forward, forward_reference

FloatArray = npt.NDArray[np.float32]


def _log_probs(rng: np.random.Generator, frames: int, symbols: int = 6) -> FloatArray:
    logits = rng.normal(0, 3, (frames, symbols))
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


def _ints(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 12), strings=st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_compiled_form_equals_the_reference(seed: int, frames: int, strings: int) -> None:
    """Any strings, repeated symbols included, in any stretches of at least a frame."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, strings).astype(np.int32)
    symbols = rng.integers(1, 4, lengths.sum()).astype(np.int32)
    begins = rng.integers(0, frames, strings).astype(np.int32)
    ends = (begins + 1 + rng.integers(0, frames - begins)).astype(np.int32)
    arguments = _log_probs(rng, frames), symbols, lengths, begins, ends
    found, expected = forward(*arguments), forward_reference(*arguments)
    assert found.shape == (strings,)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("symbols", "least"), [((1,), 1), ((1, 2, 3), 3), ((2, 2), 3), ((1, 1, 1), 5)]
)
def test_a_stretch_that_is_too_short_is_impossible(symbols: tuple[int, ...], least: int) -> None:
    """Every symbol needs a frame, and equal neighbours a blank between them."""
    log_probs = _log_probs(np.random.default_rng(1), least)
    for ends, possible in ((least, True), (least - 1, False)):
        stretch = log_probs, _ints(*symbols), _ints(len(symbols)), _ints(0), _ints(ends)
        assert np.isfinite(forward(*stretch)[0]) == possible
    assert np.isneginf(forward(*stretch)[0])


def test_all_alignments_count() -> None:
    """Two frames say one symbol as s s, s blank and blank s: three of the nine paths of three."""
    log_probs = np.full((2, 3), np.log(1 / 3), np.float32)
    score = forward(log_probs, _ints(1), _ints(1), _ints(0), _ints(2))
    assert np.exp(score[0]) == pytest.approx(3 / 9)


def test_nothing_asked_nothing_answered() -> None:
    """No strings give an empty answer."""
    nothing = _ints()
    log_probs = _log_probs(np.random.default_rng(0), 4)
    assert forward(log_probs, nothing, nothing, nothing, nothing).shape == (0,)
