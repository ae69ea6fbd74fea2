"""Phoneme alignment: the compiled form against the plain one, and what the costs mean."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.ops.phone_match import LANES, advance, advance_reference
from a2p_engine.retriever.spotter import (
    MatchCosts,
    Matches,
    PhoneIndex,
    SpotterState,
    emission_costs,
    substitution_costs,
)

COSTS = MatchCosts(cap=5.0, deletion=3.0, linger=0.05)


def _heard(*symbols: int, count: int = 8) -> np.ndarray:
    """Emission costs of frames in which exactly these symbols are heard."""
    costs = np.full((len(symbols), count), 5.0, np.float32)
    costs[np.arange(len(symbols)), symbols] = 0.0
    return costs


def _match(index: PhoneIndex, costs: np.ndarray) -> Matches:
    state = SpotterState.empty(index)
    state.advance(index, costs, COSTS)
    return state.matches(index)


@given(seed=st.integers(0, 10_000), cut=st.integers(0, 6))
@settings(max_examples=8, deadline=None)
def test_compiled_form_equals_the_reference_in_any_chunks(seed: int, cut: int) -> None:
    """Two chunks through the compiled loop leave the state of one through the reference."""
    rng = np.random.default_rng(seed)
    index = PhoneIndex([rng.integers(1, 8, n).tolist() for n in (1, 2, 3, 5, 3)], range(5))
    costs = rng.uniform(0, 5, (6, 8)).astype(np.float32)
    states = []
    for function, edges in ((advance, (0, cut, 6)), (advance_reference, (0, 6))):
        state = SpotterState.empty(index)
        for low, high in itertools.pairwise(edges):
            function(
                costs[low:high], low, index.layout.phones, index.layout.block_lengths, 3.0, 0.05,
                state.path_cost, state.path_start, *vars(state.lanes).values(),
            )  # fmt: skip
        states.append(state)
    np.testing.assert_allclose(states[0].path_cost, states[1].path_cost, atol=1e-4)
    one, other = (state.matches(index) for state in states)
    np.testing.assert_allclose(one.cost, other.cost, atol=1e-4)
    assert (one.start <= one.end).all() and (one.end < 6).all()


@pytest.mark.parametrize("count", [1, LANES, LANES + 1])
def test_a_pronunciation_scores_the_same_wherever_it_stands(count: int) -> None:
    """Full and half-full blocks, and neighbours of other lengths, make no difference."""
    rng = np.random.default_rng(count)
    many = [rng.integers(1, 8, rng.integers(1, 7)).tolist() for _ in range(count)]
    costs = rng.uniform(0, 5, (9, 8)).astype(np.float32)
    together = _match(PhoneIndex(many, range(count)), costs).cost
    alone = [_match(PhoneIndex([one], [0]), costs).cost[0] for one in many]
    assert together.tolist() == alone


def test_a_word_that_is_heard_costs_nothing_and_has_its_place() -> None:
    """Phonemes with gaps in between match at no more than the price of lingering."""
    index = PhoneIndex([[3, 4, 5], [3, 6, 5]], [0, 1])
    matches = _match(index, _heard(1, 2, 3, 3, 0, 4, 5, 2))
    assert matches.cost[0] == pytest.approx(0.05)
    assert (matches.start[0], matches.end[0]) == (2, 6)
    assert matches.cost[1] > 2.0


def test_order_matters() -> None:
    """The same phonemes in another order are another word."""
    index = PhoneIndex([[3, 4, 5], [5, 4, 3]], [0, 1])
    matches = _match(index, _heard(3, 4, 5))
    assert matches.cost[0] == 0.0 < matches.cost[1]


def test_a_swallowed_phoneme_costs_a_deletion() -> None:
    """Leaving out a phoneme at either end or in the middle costs the same."""
    index = PhoneIndex([[3, 4, 5]], [0])
    for heard in ((4, 5), (3, 5), (3, 4)):
        assert _match(index, _heard(*heard)).cost[0] == pytest.approx(COSTS.deletion)


def test_costs_are_relative_to_the_best_symbol_and_bounded() -> None:
    """A certain frame cannot cost more than the cap, an undecided one costs little."""
    table = substitution_costs(("", "k", "m"), MatchCosts(cap=4.0))
    sure = np.log(np.array([[0.998, 0.001, 0.001], [0.4, 0.35, 0.25]], np.float32))
    costs = emission_costs(sure, table)
    assert costs[0].tolist() == [0.0, 4.0, 4.0]
    assert costs[1].max() < 0.5


def test_sounds_that_are_easily_confused_cost_less() -> None:
    """Where t was said, d is cheaper than k, and any vowel is cheap where another was said."""
    symbols = ("", "t", "d", "k", "æ", "ə")
    table = substitution_costs(symbols, COSTS)
    said_t, said_schwa = np.full((2, 6), -20.0, np.float32)
    said_t[1], said_schwa[5] = 0.0, 0.0
    t, schwa = emission_costs(np.stack([said_t, said_schwa]), table)
    assert t[1] == 0.0 < t[2] < t[3]
    assert schwa[5] == 0.0 < schwa[4] < schwa[3]


def test_subset_keeps_the_chosen_pronunciations() -> None:
    """A subset scores exactly as its members did in the whole."""
    index = PhoneIndex([[1], [3, 4, 5], [2, 2], [5, 6]], [0, 1, 1, 2])
    costs = _heard(3, 4, 5, 6)
    picked = index.subset(np.array([1, 3], np.int32))
    assert picked.term_of.tolist() == [1, 2]
    whole, part = _match(index, costs).cost, _match(picked, costs).cost
    assert part.tolist() == whole[[1, 3]].tolist()


def test_an_empty_pronunciation_is_refused() -> None:
    """It would match everywhere for nothing."""
    with pytest.raises(ValueError, match="at least one phoneme"):
        PhoneIndex([[1], []], [0, 1])
