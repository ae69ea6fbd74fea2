"""The least work of a step, by hand."""

from __future__ import annotations

import pytest

from a2p_engine.bench.cost import dense_flop, step_cost
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.rates import Rates

TINY = Preset(name="tiny", width=16, heads=2, vocabulary=100)


def _rates(copy: float, matmul: float) -> Rates:
    return Rates(
        copy_bytes_per_s=copy, matmul_flop_per_s=matmul, matmul_dtype="float32", matmul_size=1
    )


def test_bytes_and_arithmetic_of_a_step() -> None:
    """Ten tokens, three terms of seven tokens together, two sessions, five frames."""
    cost = step_cost(TINY, tokens=10, query_bytes=2, entries=7, terms=3, sessions=2, frames=5)
    queries = 10 * 16 * 2
    states = 2 * (10 * 2) * (4 + 4) * 2  # sessions, token and head, two floats, read and written
    glossary = 7 * 4 + 4 * 4 + 3 * 4
    scores = 2 * 3 * 4
    assert cost.bytes == queries + states + glossary + scores == 1040
    assert cost.exps == 10 * 2 * 5 * 2 == 200
    assert cost.flop == 2 * 10 * 16 * 5 * 2 + 200 == 3400


def test_queries_are_read_once_for_all_sessions() -> None:
    """Of what a second session adds, nothing grows with the width."""

    def of(sessions: int, width: int) -> int:
        preset = Preset(name="", width=width, heads=2, vocabulary=100)
        return step_cost(
            preset, tokens=10, query_bytes=4, entries=7, terms=3, sessions=sessions, frames=5
        ).bytes

    assert of(2, 16) - of(1, 16) == of(2, 64) - of(1, 64) > 0


def test_the_floor_is_the_slower_of_moving_and_computing() -> None:
    """1040 bytes and 3400 operations, on a machine that does one well and on the other."""
    cost = step_cost(TINY, tokens=10, query_bytes=2, entries=7, terms=3, sessions=2, frames=5)
    assert cost.floor_ms(_rates(copy=1040, matmul=1e9)) == pytest.approx(1000)
    assert cost.floor_ms(_rates(copy=1e9, matmul=3400)) == pytest.approx(1000)


def test_dense_arithmetic() -> None:
    """Four square matrices a token, two a frame, scores and weighted sum between them."""
    assert dense_flop(TINY, rows=3, frames=0) == 3 * 4 * 2 * 256
    assert dense_flop(TINY, rows=0, frames=5) == 5 * 2 * 2 * 256
    whole = 3 * 4 * 2 * 256 + 5 * 2 * 2 * 256 + 2 * (2 * 3 * 5 * 16)
    assert dense_flop(TINY, rows=3, frames=5) == whole
