"""What was written as evidence: where it stands, how well it fits, what it spells out."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.choices import LEAST_LOG_ODDS, Choice
from a2p_engine.retriever.transcript import (
    Reading,
    Transcript,
    WrittenWord,
    _Maxima,
    aligned_costs,
)

FloatArray = npt.NDArray[np.float32]
CAP = 5.0


def _heard(symbols: str) -> FloatArray:
    """Costs of frames in which exactly these symbols are heard; a dash is the blank."""
    numbers = ["-abcdefg".index(symbol) for symbol in symbols]
    costs = np.full((len(numbers), 8), CAP, np.float32)
    costs[np.arange(len(numbers)), numbers] = 0.0
    return costs


def _reading(
    heard: str, *words: WrittenWord, frames: int | None = None, rarities: tuple[float, ...] = ()
) -> Reading:
    """Words are said as they are spelt."""
    return Reading(
        Transcript(words, len(heard) if frames is None else frames),
        costs=_heard(heard),
        pronunciations=[["-abcdefg".index(letter) for letter in word.text] for word in words],
        rarities=rarities or [1.0] * len(words),
    )


def _spelling(*words: WrittenWord, frames: int = 100) -> Reading:
    """A reading that is asked about letters only."""
    return Reading(
        Transcript(words, frames),
        costs=np.zeros((frames, 2), np.float32),
        pronunciations=[[] for _ in words],
        rarities=[0.0] * len(words),
    )


def _word(text: str, start: int, end: int, probability: float = 0.9) -> WrittenWord:
    return WrittenWord(text, start, end, probability)


def _told(text: str, start: int, end: int) -> WrittenWord:
    return WrittenWord(text, start, end, 0.9, told=True)


def _chosen(text: str, start: int, *choices: Choice) -> WrittenWord:
    return WrittenWord(text, start, start + 10, 0.9, choices=choices)


def _ints(*values: int) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def _best_path(costs: FloatArray, symbols: list[int]) -> FloatArray | None:
    """Costs frame by frame of the cheapest of all paths, every one of them tried."""
    best: list[float] | None = None
    for steps in itertools.product((0, 1, 2), repeat=len(costs)):
        at, path = -1, []
        for frame, step in zip(costs, steps, strict=True):
            at += step
            if at >= len(symbols):
                break
            if at < 0:
                path.append(frame[0])
            elif step:
                path.append(frame[symbols[at]] + 3.0 * (step - 1))
            else:
                path.append(min(frame[symbols[at]], frame[0] + 0.05))
        else:
            if at == len(symbols) - 1 and (best is None or sum(path) < sum(best)):
                best = path
    return None if best is None else np.cumsum([0.0, *best]).astype(np.float32)


@given(seed=st.integers(0, 10_000), frames=st.integers(0, 6), count=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_the_alignment_is_the_cheapest_there_is(seed: int, frames: int, count: int) -> None:
    """Compared with all paths, frame by frame; what has no path fits nowhere."""
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0, CAP, (frames, 6)).astype(np.float32)
    symbols = rng.permutation(np.arange(1, 6))[:count]  # no two paths cost the same
    found, expected = aligned_costs(costs, symbols), _best_path(costs, symbols.tolist())
    assert found.shape == (frames + 1,)
    if expected is None:
        expected = np.arange(frames + 1, dtype=np.float32) * 20
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_symbols_all_is_silence() -> None:
    """Each frame costs what its blank costs."""
    costs = aligned_costs(_heard("-ab-"), np.zeros(0, np.int64))
    assert costs.tolist() == [0, 0, CAP, 2 * CAP, 2 * CAP]


def test_text_that_fits_speaks_against_a_term_and_text_that_does_not_for_it() -> None:
    """The margin is how much cheaper the term is than what was written there."""
    reading = _reading("-abc--efg-", _word("abc", 1, 4), _word("edg", 6, 9))
    margin, misfit, *_ = reading.features(
        np.array([2.0, 0.5], np.float32), _ints(1, 6), _ints(4, 9)
    ).T
    assert misfit.tolist() == [0.0, CAP]
    assert margin.tolist() == [-2.0, CAP - 0.5]


def test_evidence_of_text_is_bounded() -> None:
    """A long stretch of nonsense, or a term that matches nowhere, says no more than a short one."""
    reading = _reading("abababababab", _word("c", 0, 12))
    cost = np.array([0.0, np.inf], np.float32)
    margin, misfit, *_ = reading.features(cost, _ints(0, 0), _ints(12, 1)).T
    assert (margin[0], misfit[0], margin[1]) == (20, 20, -20)


def test_text_with_more_symbols_than_there_is_time_for_explains_nothing() -> None:
    """A model that repeats itself over half a second of audio does not fit anywhere."""
    reading = _reading("abcabc", _word("abc" * 8, 0, 6))
    features = reading.features(np.zeros(3, np.float32), _ints(0, 1, 4), _ints(3, 2, 6))
    assert features[:, 1].tolist() == [20, 20, 20]


def test_the_greatest_doubt_and_the_rarest_word_of_a_stretch_count() -> None:
    """Words at its edges do not, their times being inexact; certainty is bounded."""
    words = (_word("a", 0, 10, 0.2), _word("b", 10, 20, 0.5), _word("c", 20, 30, 1.0))
    reading = _reading("a" * 10 + "b" * 10 + "c" * 10, *words, rarities=(9.0, 2.0, 4.0))
    doubt, rarity = reading.features(
        np.zeros(4, np.float32), _ints(8, 21, 11, 0), _ints(22, 22, 28, 30)
    ).T[2:4]
    assert doubt == pytest.approx([0, np.log(0.001 / 0.999), 0, np.log(4)], abs=1e-3)
    assert rarity.tolist() == [2, 4, 4, 9]


def test_pauses_are_no_doubt() -> None:
    """A stretch of a sure word and the silence behind it is as sure as the word."""
    reading = _reading("a" * 10 + "b" * 20, _word("a", 0, 10, 0.9), rarities=(9.0,))
    doubt = reading.features(np.zeros(2, np.float32), _ints(0, 4), _ints(10, 24)).T[2]
    assert doubt == pytest.approx([np.log(0.1 / 0.9)] * 2)


def test_a_sure_text_that_fits_explains_what_is_heard() -> None:
    """One that does not fit explains less, and one that is unsure nothing."""
    word = _word("a", 0, 10, 0.9)
    fitting = _reading("a" * 10, word, rarities=(9.0,))
    other = _reading("b" * 10, word, rarities=(9.0,))
    unsure = _reading("a" * 10, _word("a", 0, 10, 0.3), rarities=(9.0,))
    span = np.zeros(1, np.float32), _ints(0), _ints(10)
    explained = [float(each.features(*span)[0, 4]) for each in (fitting, other, unsure)]
    assert explained[0] == pytest.approx(np.log(9), abs=0.01)
    assert explained[1] < 0.5 * explained[0]
    assert explained[2] == 0


def test_a_stretch_is_covered_where_all_of_it_was_written_untold() -> None:
    """Neither beyond the end of the text nor where a word stands that was in the prompt."""
    words = (_word("ab", 0, 2), _told("cd", 4, 6), _word("ef", 8, 10))
    reading = _reading("ab--cd--efgg", *words, frames=10)
    starts, ends = _ints(0, 0, 3, 5, 6, 8, 8, 10), _ints(4, 5, 6, 6, 10, 10, 11, 12)
    assert reading.covers(starts, ends).tolist() == [
        True, False, False, False, True, True, False, False,
    ]  # fmt: skip


def test_text_of_the_beginning_is_laid_along_the_beginning_only() -> None:
    """What was said since, though it sounds the same, does not draw the words away."""
    reading = _reading("abc--abc", _word("abd", 0, 3), frames=4)
    early, late = reading.features(np.zeros(2, np.float32), _ints(0, 5), _ints(3, 8))
    assert early[1] == CAP
    assert late[1] == 0


def test_a_text_may_cover_more_than_was_heard() -> None:
    """Word times may lie a little beyond the last frame."""
    reading = _reading("abc", _word("abc", 0, 5), frames=6)
    assert reading.covers(_ints(0), _ints(3)).tolist() == [True]
    assert reading.features(np.zeros(1, np.float32), _ints(0), _ints(3))[0, 1] == 0


def test_a_term_is_spelt_where_it_stands() -> None:
    """Case and punctuation aside, within a third of a second."""
    spellings = _spelling(_word(" The", 10, 15), _word(" Badge,", 15, 25)).spellings
    assert spellings.contain("badge", 15, 25)
    assert spellings.contain("BADGE", 32, 40) and not spellings.contain("badge", 33, 40)
    assert spellings.contain("badge", 0, 8) and not spellings.contain("badge", 0, 7)
    assert not spellings.contain("bad", 15, 25)


@pytest.mark.parametrize("apostrophe", ["'", "\N{RIGHT SINGLE QUOTATION MARK}"])
def test_an_inner_apostrophe_belongs_to_its_word(apostrophe: str) -> None:
    """A negated word does not spell what stands before its apostrophe, however that is typed."""
    spellings = _spelling(_word(f" couldn{apostrophe}t", 0, 9), _word(" 'Tis'", 9, 15)).spellings
    assert not spellings.contain("couldn", 0, 9)
    assert not spellings.contain("t", 0, 9)
    assert spellings.contain("couldn't", 0, 9)
    assert spellings.contain("couldn\N{RIGHT SINGLE QUOTATION MARK}t", 0, 9)
    assert spellings.contain("tis", 9, 15)


def test_a_term_of_several_words_is_spelt_by_a_run_of_them() -> None:
    """Hyphens part words, order matters, and so does what stands between."""
    words = [_word(text, 10 * n, 10 * n + 10) for n, text in enumerate(("left", "bundle-branch"))]
    spellings = _spelling(*words, _word("block", 20, 30)).spellings
    assert spellings.contain("left bundle branch block", 0, 30)
    assert spellings.contain("Bundle branch", 10, 20)
    assert not spellings.contain("bundle left", 0, 20)
    assert not spellings.contain("left block", 0, 30)


def test_what_was_told_spells_nothing() -> None:
    """Nor do the words around it make a run."""
    spellings = _spelling(_word("new", 0, 9), _told("big", 9, 18), _word("york", 18, 27)).spellings
    assert not spellings.contain("big", 9, 18)
    assert not spellings.contain("new york", 0, 27)
    assert spellings.contain("york", 18, 27)


@given(
    values=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=40),
    seed=st.integers(0, 10_000),
)
def test_maxima_are_those_of_numpy(values: list[float], seed: int) -> None:
    """For any stretches of at least a frame."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, len(values), 9).astype(np.int32)
    end = (start + 1 + rng.integers(0, len(values) - start)).astype(np.int32)
    array = np.array(values, np.float32)
    expected = [array[low:high].max() for low, high in zip(start, end, strict=True)]
    assert _Maxima(array).between(start, end).tolist() == expected


FIRST = Choice(1, {2: -3.0, 7: -1.0}, -9.0)
SECOND = Choice(4, {5: -2.0}, -9.0)


def test_the_odds_of_a_term_are_those_at_the_word_that_begins_there() -> None:
    """Its best spelling counts, and a term may go on into the next word."""
    reading = _spelling(_chosen(" a", 0, FIRST), _chosen(" b", 20, SECOND))
    assert reading.fork([[2], [7]], 3) == -1.0
    assert reading.fork([[1, 5]], 0) == -2.0
    assert reading.fork([[5]], 22) == -2.0
    assert reading.fork([[3]], 22) == -9.0


def test_where_no_word_begins_a_term_was_hardly_meant() -> None:
    """If it is known what might have been written at all."""
    assert _spelling(_chosen(" a", 0, FIRST)).fork([[1]], 40) == LEAST_LOG_ODDS
    assert _spelling(_word(" a", 0, 10)).fork([[1]], 40) is None
    assert _spelling().fork([[1]], 40) is None


def test_odds_are_unknown_where_the_model_was_told_or_tells_nothing() -> None:
    """Choices end where the next word has none."""
    reading = _spelling(_chosen(" a", 0, FIRST), _word(" b", 20, 30))
    assert reading.fork([[4]], 20) is None
    assert reading.fork([[1, 4]], 0) == LEAST_LOG_ODDS
