"""The stabiliser commits what two hypotheses agree on, and never takes it back."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.types import Word
from streaming.stabiliser import Stabiliser


def words(*texts: str, each: int = 1000) -> tuple[Word, ...]:
    """Words of equal length in a row, with a space between."""
    return tuple(
        Word(
            text=f" {text}" if index else text,
            start_sample=index * each,
            end_sample=(index + 1) * each,
            probability=1.0,
        )
        for index, text in enumerate(texts)
    )


def update(stabiliser: Stabiliser, *texts: str, heard: int = 100_000) -> None:
    """Feed a hypothesis."""
    stabiliser.update(" ".join(texts), words(*texts), heard)


def test_the_first_hypothesis_is_all_volatile() -> None:
    """One hypothesis commits nothing."""
    stabiliser = Stabiliser(0)
    update(stabiliser, "so", "it", "begins")
    assert (stabiliser.committed, stabiliser.volatile) == ("", "so it begins")


def test_commits_what_two_hypotheses_agree_on() -> None:
    """The agreed prefix is committed; from the first difference on the text stays volatile."""
    stabiliser = Stabiliser(0)
    update(stabiliser, "so", "it", "began")
    update(stabiliser, "so", "it", "begins", "now")
    assert (stabiliser.committed, stabiliser.volatile) == ("so it", " begins now")


def test_holds_back_words_near_the_end_of_the_audio() -> None:
    """A word is not committed before enough audio behind it was heard."""
    stabiliser = Stabiliser(1500)
    update(stabiliser, "so", "it", "begins", heard=3000)
    update(stabiliser, "so", "it", "begins", heard=3000)
    assert (stabiliser.committed, stabiliser.volatile) == ("so", " it begins")


def test_the_last_word_stays_volatile() -> None:
    """However often hypotheses agree, their last word is not committed before the final."""
    stabiliser = Stabiliser(0)
    for _ in range(3):
        update(stabiliser, "so", "it", "begins.")
    assert (stabiliser.committed, stabiliser.volatile) == ("so it", " begins.")


def test_punctuation_counts_as_text() -> None:
    """A word whose punctuation changed is not agreed on."""
    stabiliser = Stabiliser(0)
    update(stabiliser, "so.", "it")
    update(stabiliser, "so", "it")
    assert stabiliser.committed == ""


def test_finish_commits_everything() -> None:
    """The final text is the latest hypothesis."""
    stabiliser = Stabiliser(0)
    update(stabiliser, "so", "it")
    assert stabiliser.finish() == "so it"
    assert (stabiliser.committed, stabiliser.volatile) == ("so it", "")


def test_a_contradiction_keeps_the_committed_text(caplog: pytest.LogCaptureFixture) -> None:
    """Committed text stays, later words follow it, and the log tells once, not what was said."""
    stabiliser = Stabiliser(0)
    update(stabiliser, "so", "it")
    update(stabiliser, "so", "it", "begins")
    with caplog.at_level(logging.WARNING):
        update(stabiliser, "sow", "if", "begins", "now")
        update(stabiliser, "sow", "if", "begins", "here")
    assert (stabiliser.committed, stabiliser.volatile) == ("so it", " begins here")
    assert len(caplog.records) == 1
    assert "committed" in caplog.text and "begins" not in caplog.text


def test_words_that_do_not_spell_the_text_commit_nothing_wrong() -> None:
    """If words and text differ, committed text still is a prefix of the text."""
    stabiliser = Stabiliser(0)
    for _ in range(3):
        stabiliser.update("one two", words("uno", "dos"), 100_000)
    assert (stabiliser.committed, stabiliser.volatile) == ("", "one two")


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=12), st.integers(0, 4000))
def test_committed_text_only_ever_grows(hypotheses: list[list[str]], hold_back: int) -> None:
    """Whatever the engine says, committed text is a prefix of everything that follows."""
    stabiliser, before = Stabiliser(hold_back), ""
    for texts in hypotheses:
        update(stabiliser, *texts, heard=1000 * len(texts))
        assert stabiliser.committed.startswith(before)
        before = stabiliser.committed
    assert stabiliser.finish().startswith(before)
