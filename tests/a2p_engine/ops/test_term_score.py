"""The term scorer's CPU form against plain torch in float64."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.ops import term_score
from a2p_engine.ops.term_score import State, reference


def _state(blocks: int, heads: int, width: int, dtype: torch.dtype = torch.float32) -> State:
    shape = (blocks, heads, width)
    return State(torch.full(shape, -torch.inf, dtype=dtype), torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("blocks", "heads", "depth", "width", "frames"),
    [(1, 1, 8, 1, 1), (3, 2, 12, 5, 7), (2, 3, 64, 33, 65), (4, 2, 128, 8, 150)],
)
def test_ticks_of_several_sessions_equal_float64(
    blocks: int, heads: int, depth: int, width: int, frames: int, threads: int
) -> None:
    """Three ticks of sessions with different lengths; padding and outputs are poisoned."""
    torch.manual_seed(frames)
    queries = torch.randn(blocks, heads, depth, width) * 3 / depth**0.5
    states = [_state(blocks, heads, width) for _ in range(3)]
    exact = [_state(blocks, heads, width, torch.float64) for _ in range(3)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for _ in range(3):
            counts = torch.tensor([frames, 0, frames // 2], dtype=torch.int32)
            settled = torch.tensor([frames // 2, 0, frames // 2], dtype=torch.int32)
            keys = torch.randn(3, heads, frames, depth)
            values = torch.randn(3, heads, frames)
            for session, count in enumerate(counts):
                keys[session, :, count:] = torch.nan
                values[session, :, count:] = torch.nan
            gain = torch.full((3, blocks * width), torch.nan)
            expected = torch.empty(3, blocks * width, dtype=torch.float64)
            term_score.attend(queries, keys, values, counts, settled, states, gain)
            reference.attend(
                queries.double(), keys.double(), values.double(), counts, settled, exact, expected
            )
            torch.testing.assert_close(gain.double(), expected, atol=2e-5, rtol=1e-5)
            for found, right in zip(states, exact, strict=True):
                torch.testing.assert_close(found.lse.double(), right.lse, atol=2e-5, rtol=1e-6)
                torch.testing.assert_close(found.mean.double(), right.mean, atol=2e-5, rtol=1e-5)
    finally:
        torch.set_num_threads(before)
    assert gain[1].abs().max() == 0  # it has heard nothing


@pytest.mark.parametrize("lengths", [[128, 0], [0, 128, 0, 1], [0], [127, 130, 0], [256], [0, 0]])
def test_every_session_is_read_out_wherever_chunks_are_cut(lengths: list[int]) -> None:
    """Also one without frames after a chunk that is exactly full."""
    torch.manual_seed(1)
    queries = torch.randn(1, 2, 4, 3)
    keys, values = torch.randn(len(lengths), 2, 256, 4), torch.randn(len(lengths), 2, 256)
    count = torch.tensor(lengths, dtype=torch.int32)
    for settled in (count, count // 3, count * 0):
        gain, expected = torch.full((len(lengths), 3), torch.nan), torch.empty(len(lengths), 3)
        for attend, out in ((term_score.attend, gain), (reference.attend, expected)):
            states = [_state(1, 2, 3) for _ in lengths]
            for _ in range(2):
                attend(queries, keys, values, count, settled, states, out)
        torch.testing.assert_close(gain, expected, atol=1e-5, rtol=1e-5)


def test_scores_far_apart_neither_overflow_nor_lose_what_is_settled() -> None:
    """A provisional frame that outweighs the settled ones by 2^600 leaves their state intact."""
    queries = torch.ones(1, 1, 1, 2)
    keys = torch.tensor([[[[-300.0], [-299.0], [300.0]]]])
    values = torch.tensor([[[1.0, 3.0, 5.0]]])
    state, gain = _state(1, 1, 2), torch.full((1, 2), torch.nan)
    count, settled = (torch.tensor([n], dtype=torch.int32) for n in (3, 2))
    term_score.attend(queries, keys, values, count, settled, [state], gain)
    assert gain.tolist() == [[5.0, 5.0]]
    torch.testing.assert_close(state.mean[0, 0], torch.full((2,), 7 / 3))
    torch.testing.assert_close(state.lse[0, 0], torch.full((2,), -299 + np.log2(1.5)).float())


def test_queries_may_be_bfloat16() -> None:
    """They are widened, not the scores narrowed."""
    torch.manual_seed(0)
    queries = torch.randn(2, 2, 16, 8).bfloat16()
    keys, values = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9)
    count = torch.tensor([9], dtype=torch.int32)
    gains = []
    for form in (queries, queries.float()):
        gain = torch.empty(1, 16)
        term_score.attend(form, keys, values, count, count, [_state(2, 2, 8)], gain)
        gains.append(gain)
    torch.testing.assert_close(gains[0], gains[1], atol=0, rtol=0)


@given(seed=st.integers(0, 10_000), forms=st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_pooling_equals_the_reference(seed: int, forms: int) -> None:
    """Any lengths; a form that is switched off stays at -inf."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, forms)
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    rows = torch.from_numpy(rng.integers(0, 11, lengths.sum()).astype(np.int32))
    gain = torch.from_numpy(rng.normal(size=(2, 11)).astype(np.float32))
    bias = torch.from_numpy(rng.choice([0.0, -np.inf, 0.7], forms).astype(np.float32))
    out, expected = torch.full((2, forms), torch.nan), torch.empty(2, forms)
    term_score.pool(gain, rows, offsets, bias, out)
    reference.pool(gain, rows, offsets, bias, expected)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)


@given(
    scores=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, 3.0]), max_size=60),
    k=st.integers(0, 70),
)
def test_top_k_equals_a_stable_sort(scores: list[float], k: int) -> None:
    """Ties, too, come in the order of their places."""
    given_scores = torch.tensor(scores)
    values, places = term_score.top_k(given_scores, k)
    expected_values, expected_places = reference.top_k(given_scores, k)
    assert values.tolist() == expected_values.tolist()
    assert places.tolist() == expected_places.tolist()


def test_threads_of_the_scorer_do_not_change_what_torch_uses_elsewhere() -> None:
    """The caller's own setting is what it was before."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        gain = torch.empty(1, 8)
        count = torch.ones(1, dtype=torch.int32)
        term_score.attend(
            torch.ones(4, 1, 1, 2), torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1), count, count,
            [_state(4, 1, 2)], gain,
        )  # fmt: skip
        assert torch.get_num_threads() == 2
        assert gain.tolist() == [[1.0] * 8]
    finally:
        torch.set_num_threads(before)


def test_without_triton_a_gpu_gets_plain_torch_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fallback is logged once, however often it is used."""

    def missing(name: str) -> None:
        raise ImportError("no module named triton")

    monkeypatch.setattr(term_score.importlib, "import_module", missing)
    term_score._backend.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert term_score._backend(torch.device("cuda")) is reference
    finally:
        term_score._backend.cache_clear()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
