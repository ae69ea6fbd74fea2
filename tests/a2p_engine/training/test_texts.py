"""What is spoken in training, and what never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.errors import TrainingError
from a2p_engine.training.texts import (
    _CARRIERS,
    TrainingText,
    fragments,
    read_lines,
    split_sentences,
    words_of,
)

SENTENCES = [
    f"Sentence number {'one two three four five six'.split()[i % 6]} speaks of the "
    f"{'harbour garden kitchen'.split()[i % 3]}, as the witness (x{i}) told us."
    for i in range(60)
]
RARE = ["apixaban", "poundmaker", "voussoir", "quixotic"]


def test_words_keep_inner_apostrophes_and_lose_case_and_digits() -> None:
    """Both apostrophes join a word; everything else that is no letter splits."""
    curly = "\N{RIGHT SINGLE QUOTATION MARK}"
    assert words_of(f"Don't, the 1963 boy{curly}s'") == ["don't", "the", "boy's"]


def test_an_excluded_word_is_cut_out_of_its_sentence() -> None:
    """The runs around it survive when they have four words or more."""
    text = "a b c Forbidden, d e f g h i"
    assert fragments(text, frozenset({"forbidden"})) == ["d e f g h i"]


def test_excluded_words_are_never_spoken() -> None:
    """Neither by sentences nor by carriers, in any case or possessive form given."""
    text = TrainingText(SENTENCES, RARE, exclude=["Witness", "voussoir"], seed=3)
    spoken = {word for number in range(400) for word in words_of(text[number].text)}
    assert "witness" not in spoken
    assert "voussoir" not in spoken
    assert {"apixaban", "harbour"} <= spoken


def test_carriers_that_hold_an_excluded_word_are_not_spoken() -> None:
    """The words between the terms are excluded like all others, to the last carrier."""
    plain = TrainingText(SENTENCES, RARE, seed=3)
    between = {word for n in range(400) for word in words_of(plain[n].text)}
    assert {"meeting", "train"} <= between
    text = TrainingText(SENTENCES, RARE, exclude=["meeting", "train"], seed=3)
    assert {"meeting", "train"}.isdisjoint(w for n in range(400) for w in words_of(text[n].text))
    lists = TrainingText(["quick brown foxes jump"], RARE, exclude=words_of(" ".join(_CARRIERS)))
    assert all(lists[n].text for n in range(50))


def test_a_line_depends_on_its_number_and_seed_alone() -> None:
    """Any process may say any line."""
    first, second = TrainingText(SENTENCES, RARE, seed=5), TrainingText(SENTENCES, RARE, seed=5)
    assert [first[n] for n in (7, 3, 7)] == [second[n] for n in (7, 3, 7)]
    other = TrainingText(SENTENCES, RARE, seed=6)
    assert [first[n].text for n in range(20)] != [other[n].text for n in range(20)]


def test_held_out_sentences_are_disjoint_and_repeatable() -> None:
    """Train, dev and test share no sentence and do not change from call to call."""
    split = split_sentences(SENTENCES, dev=5, test=10)
    assert len(split.dev) == 5
    assert len(split.test) == 10
    assert sorted((*split.train, *split.dev, *split.test)) == sorted(SENTENCES)
    assert split == split_sentences(SENTENCES, dev=5, test=10)


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    """Each way of having nothing to say has its own clear error."""
    with pytest.raises(TrainingError, match="too few"):
        split_sentences(SENTENCES[:5], dev=5, test=5)
    with pytest.raises(TrainingError, match="no sentence is left"):
        TrainingText(["one two three four"], exclude=["two"])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    with pytest.raises(TrainingError, match="no text"):
        read_lines(empty)
    with pytest.raises(TrainingError, match="cannot read"):
        read_lines(tmp_path / "absent.txt")
