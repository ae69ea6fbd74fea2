"""Texts compared the way a reader does."""

from __future__ import annotations

import pytest

from a2p_engine.text import letters, mentions, occurrences, shared_words


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


def test_without_spaces_each_character_is_a_word() -> None:
    """A Chinese or Japanese term is found in the middle of a sentence, and among its words."""
    assert mentions("患者服用阿哌沙班。", "阿哌沙班")
    assert not mentions("患者服用华法林。", "阿哌沙班")
    assert occurrences(["患", "者", "服", "用", "阿", "哌", "沙", "班。"], "阿哌沙班") == [
        range(4, 8)
    ]
    assert occurrences([" 患者", "服用", "阿哌沙班。"], "阿哌沙班") == [range(2, 3)]


def test_a_term_is_found_in_every_place_where_it_is_written() -> None:
    """Over several words or as a part of one that is written with a hyphen; never overlapping."""
    words = [" The", " new", " York-new", " York", " times.", " New", " York"]
    assert occurrences(words, "New York") == [range(1, 3), range(2, 4), range(5, 7)]
    assert occurrences(["no", "no", "no"], "no no") == [range(0, 2)]
    assert occurrences(words, "Jersey") == occurrences([], "new") == occurrences(words, "-") == []


@pytest.mark.parametrize(
    ("beginning", "count"), [("", 0), ("And", 1), ("And so,", 2), ("And so", 1), ("And so, my", 3)]
)
def test_committed_text_is_counted_in_words(beginning: str, count: int) -> None:
    """A word of which only a part is committed does not count."""
    assert shared_words([" And", " so,", " my"], beginning) == count
