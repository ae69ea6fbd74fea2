"""Tables of evidence: parts of them, the best way to say each term, exact likelihoods."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from a2p_engine.retriever.evidence import Heard, best_of_each, likelihoods
from a2p_engine.retriever.spotter import Matches, PhoneIndex


def _ints(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


@pytest.fixture
def heard() -> Heard:
    """Two tables of pronunciations; the second term has two of them."""
    phones = (PhoneIndex([[1, 2], [3], [4, 5, 6]], [0, 1, 1]), PhoneIndex([[7], [8, 9]], [0, 1]))
    match = Matches(np.arange(5, dtype=np.float32), _ints(0, 1, 2, 3, 4), _ints(1, 2, 4, 5, 5))
    gain = np.zeros(5, np.float32)
    return Heard(_ints(0, 1, 1, 2, 3), _ints(2, 1, 3, 1, 2), match, gain, np.arange(5), phones)


def test_symbols_follow_the_rows(heard: Heard) -> None:
    """Of all pronunciations, and of parts that lie in one table or in several."""
    assert heard.symbols.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert heard.part(np.array([2, 4])).symbols.tolist() == [4, 5, 6, 8, 9]
    assert heard.part(np.array([1, 2])).part(np.array([0])).symbols.tolist() == [3]
    assert heard.part(np.array([], np.int64)).symbols.tolist() == []


def test_a_part_keeps_its_columns_together(heard: Heard) -> None:
    """Terms, lengths and places of the same rows."""
    part = heard.part(np.array([0, 2, 3]))
    assert (part.term.tolist(), part.length.tolist()) == ([0, 1, 2], [2, 3, 1])
    assert part.match.cost.tolist() == [0, 2, 3]
    assert part.match.end.tolist() == [1, 4, 5]


def test_the_most_probable_way_to_say_a_term_speaks_for_it() -> None:
    """Terms without any pronunciation are passed over."""
    logits = np.array([0.5, -1, 3, 2, -np.inf, -np.inf], np.float32)
    best = best_of_each(_ints(1, 1, 1, 4, 6, 6), logits)
    assert best[:2].tolist() == [2, 3] and best[2] in (4, 5)
    assert best_of_each(_ints(), np.zeros(0, np.float32)).tolist() == []


def test_a_likelihood_is_relative_to_the_best_path(heard: Heard) -> None:
    """0 where the best path says nothing else; a frame on either side belongs to the stretch."""
    log_probs = np.full((6, 10), -20.0, np.float32)
    log_probs[[0, 1, 2, 3, 4, 5], [1, 2, 0, 7, 0, 9]] = 0.0
    found = likelihoods(log_probs, heard.part(np.array([0, 1, 3])))
    assert found[[0, 2]] == pytest.approx([0, -20], abs=0.01)
    assert found[1] < -30
