"""What might have been written instead: odds at the place where two texts part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from a2p_engine.choices import KEPT, LEAST_LOG_ODDS, Choice, choices_of, fork


def _row(size: int = 1000, **logits: float) -> npt.NDArray[np.float32]:
    row = np.full(size, -40.0, np.float32)
    for token, logit in logits.items():
        row[int(token[1:])] = logit
    return row


def test_odds_are_those_of_the_logits() -> None:
    """Of the written token 0, of another one the difference; what is beyond counts alike."""
    (choice,) = choices_of([3], [_row(t3=5.0, t7=4.0, t8=-2.0)])
    assert choice.of(3) == 0
    assert choice.of(7) == pytest.approx(-1)
    assert choice.of(8) == pytest.approx(-7)
    assert choice.of(500) == LEAST_LOG_ODDS
    assert len(choice.log_odds) == KEPT


def test_a_token_that_is_not_kept_is_as_probable_as_the_last_that_is() -> None:
    """A flat distribution has no improbable tokens."""
    (choice,) = choices_of([0], [-0.001 * np.arange(1000, dtype=np.float32)])
    assert choice.of(KEPT + 100) == pytest.approx(-0.001 * (KEPT - 1), abs=1e-4)


def test_a_more_probable_token_that_may_not_be_written_counts_as_even() -> None:
    """Decoders suppress some tokens; odds stay at most even."""
    (choice,) = choices_of([1], [_row(t1=1.0, t2=9.0)])
    assert choice.of(2) == 0


def test_texts_part_at_the_first_token_that_differs() -> None:
    """What comes later is not asked for; what was written has even odds."""
    choices = [Choice(1, {2: -3.0}, -8.0), Choice(5, {6: -1.5}, -8.0), Choice(9, {}, -8.0)]
    assert fork(choices, [2, 6]) == -3.0
    assert fork(choices, [1, 6, 2]) == -1.5
    assert fork(choices, [1, 7]) == -8.0
    assert fork(choices, [1, 5]) == 0.0
    assert fork(choices, [1, 5, 9]) == 0.0


def test_a_text_that_goes_on_behind_the_end_was_not_meant() -> None:
    """The written one ended there."""
    assert fork([Choice(1, {}, -8.0)], [1, 2]) == LEAST_LOG_ODDS
    assert fork([], [1]) == LEAST_LOG_ODDS
