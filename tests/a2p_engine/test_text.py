"""Texts compared the way a reader does."""

from __future__ import annotations

import pytest

from a2p_engine.text import letters, mentions


@pytest.mark.parametrize(
    ("one", "other"),
    [("E-mail", "e mail"), ("Café", "cafe"), ("O'Neill", "ONeill"), ("U.S.", "us")],
)
def test_spellings_of_one_term_have_the_same_letters(one: str, other: str) -> None:
    """Case, accents, spaces, hyphens, apostrophes and points do not count."""
    assert letters(one) == letters(other) != ""


@pytest.mark.parametrize(("one", "other"), [("C++", "C"), ("C#", "C"), ("R&D", "RD"), ("ab", "ba")])
def test_other_terms_have_other_letters(one: str, other: str) -> None:
    """Signs that are said make another term."""
    assert letters(one) != letters(other)


def test_a_text_mentions_whole_words_only() -> None:
    """In any case and with any punctuation."""
    assert mentions("They took Apixaban, twice.", "apixaban")
    assert mentions("the New-York times", "new york")
    assert not mentions("a thrombus", "thro")
    assert not mentions("anything", "...")
