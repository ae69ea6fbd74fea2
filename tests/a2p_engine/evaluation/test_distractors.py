"""Test glossaries: nested, without what is said, of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import InputError
from a2p_engine.evaluation.distractors import (
    Distractors,
    glossary,
    said_phrases,
    said_words,
    spoken_terms,
)
from a2p_engine.manifest import Recording
from a2p_engine.text import plain

WORDS = [f"{a}{b}{c}" for a in ("ba", "cro", "flin") for b in "aeiou" for c in ("dge", "ster")]


def _recording(text: str | None, *terms: str) -> Recording:
    return Recording(id="r", audio=Path("r.wav"), text=text, terms=terms)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 3))
def test_a_larger_glossary_contains_the_smaller(one: int, other: int, seed: int) -> None:
    """It begins with it, also where words have to be made up."""
    drawn = Distractors(WORDS, frozenset(), seed)
    small, large = sorted((one, other))
    assert drawn.first(large)[:small] == drawn.first(small)
    assert len(drawn.first(large)) == large
    assert Distractors(WORDS, frozenset(), seed).first(large) == drawn.first(large)


def test_another_seed_draws_others() -> None:
    """In the list and in what is made up."""
    one, other = (Distractors(WORDS, frozenset(), seed).first(60) for seed in (0, 1))
    assert one[:30] != other[:30]
    assert set(one[30:]) != set(other[30:])


def test_no_word_that_is_said_is_drawn() -> None:
    """Neither from the texts nor from the terms, whatever case and punctuation."""
    recordings = [
        _recording("Well, 'Badge' it is; the broster's", "light cradge"),
        _recording(None, "Flinadge"),
    ]
    said = said_words(recordings)
    drawn = Distractors([*WORDS, "light", "broster's"], said).first(80)
    assert not {"badge", "light", "cradge", "flinadge", "broster's"} & set(drawn)
    assert len({plain(word) for word in drawn}) == len(drawn)


def test_no_phrase_that_is_said_is_drawn() -> None:
    """Wherever it stands in a text; the words of the list come in the same order without it."""
    recordings = [_recording("One iced mocha, please."), _recording(None, "large oat-milk latte")]
    said, phrases = said_words(recordings), said_phrases(recordings)
    listed = [*WORDS, "Iced mocha", "oat milk", "iced latte"]
    drawn = Distractors(listed, said, 3, phrases).first(len(WORDS) + 1)
    assert set(drawn) == {*WORDS, "iced latte"}
    assert drawn == [word for word in Distractors(listed, said, 3).first(99) if word in set(drawn)]
    assert Distractors(WORDS, said, 3, phrases).first(99) == Distractors(WORDS, said, 3).first(99)
    with pytest.raises(InputError, match="no word that the recordings do not say"):
        Distractors(["iced mocha"], said, 0, phrases)


def test_made_up_words_look_like_the_list() -> None:
    """Every three letters in a row occur in the list; none of the words does."""
    made_up = Distractors(WORDS, frozenset({"badgeste"})).first(34)[len(WORDS) :]
    assert made_up
    assert not set(made_up) & {*WORDS, "badgeste"}
    longest = max(map(len, made_up))
    assert longest < 60


def test_a_short_list_still_fills_a_long_glossary() -> None:
    """Pieces are joined when single words are used up."""
    drawn = Distractors(["banana"], frozenset()).first(6)
    assert len(set(drawn)) == 6
    assert set("".join(drawn)) <= set("ban")


def test_spoken_terms_come_first_and_are_always_in() -> None:
    """Each once, whatever its case."""
    spoken = spoken_terms([_recording("x", "Badge", "pug"), _recording("y", "badge")])
    assert list(map(plain, spoken)) == ["badge", "pug"]
    drawn = Distractors(WORDS, {"badge"})
    assert glossary(spoken, drawn, 5)[:2] == spoken
    assert len(glossary(spoken, drawn, 5)) == 5
    with pytest.raises(InputError, match="1 terms cannot hold the 2 that are spoken"):
        glossary(spoken, drawn, 1)


def test_a_list_that_is_all_said_is_refused() -> None:
    """There is nothing to draw from."""
    with pytest.raises(InputError, match="no word that the recordings do not say"):
        Distractors(["badge"], {"badge"})
