"""What is spoken in training, and what never is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import TrainingError
from a2p_engine.training.texts import (
    _CARRIERS,
    TermSet,
    TrainingText,
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


def test_terms_are_found_as_whole_words_in_their_order() -> None:
    """Phrases are found over punctuation and case; other forms of a word are other words."""
    terms = TermSet(["Whole milk", "latte", "John", "...", "latte"])
    assert terms.terms == {("whole", "milk"), ("latte",), ("john",)}
    assert terms.found_in("A latte with whole. Milk?") == {("latte",), ("whole", "milk")}
    assert terms.found_in("lattes, milk, whole-grain and John's milk") == set()
    assert TermSet().found_in("anything") == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("The Rev. Mr. Cotton", "reverend mister cotton"),
        ("Rev Cotton", "reverend"),
        ("Martin King, Jr., spoke", "king junior spoke"),
        ("St. Paul's is on Fleet St.", "saint paul's is on fleet street"),
        ("Dr. Brown etc.", "doctor brown et cetera"),
        ("about 5 km or 3 lbs", "kilometers or pounds"),
    ],
)
def test_abbreviations_say_what_they_stand_for(text: str, says: str) -> None:
    """As the phonemizer reads them; what is written counts as well."""
    assert TermSet([says, *words_of(text)]).found_in(text) >= {
        tuple(says.split()), *((word,) for word in words_of(text))
    }  # fmt: skip


def test_a_text_is_cut_around_abbreviations_of_excluded_words() -> None:
    """Where the abbreviation is read so, and nowhere else."""
    terms = TermSet(["reverend", "king junior"])
    assert terms.cut("so the Rev. W. Bailey and Rev Cotton came") == [
        "so the", "W. Bailey and Rev", "Cotton came",
    ]  # fmt: skip
    assert terms.cut("to rev the motor, a King, Jr. or Sr.") == [
        "to rev the motor, a King,", "Jr. or Sr.",
    ]  # fmt: skip
    assert terms.cut_as_written("the Rev. W. Bailey") == ["the Rev. W. Bailey"]


def test_an_excluded_abbreviation_changes_its_own_utterances_only() -> None:
    """All others stay under their numbers, and nobody says the word."""
    sentences = [*SENTENCES, "This was told by the Rev. W. Bailey in the old harbour."]
    before = TrainingText(sentences, RARE, exclude=["voussoir"], seed=3)
    after = TrainingText(sentences, RARE, exclude=["voussoir", "reverend"], seed=3)
    pairs = [(before[number].text, after[number].text) for number in range(600)]
    said = [old for old, new in pairs if old != new]
    assert said and all("Rev." in old or "Bailey" in old or "told by" in old for old in said)
    assert any("Rev." in old for old, _ in pairs)
    assert not any("Rev." in new for _, new in pairs)


def test_a_text_is_cut_around_excluded_words_and_inside_phrases() -> None:
    """What is left never says a term and loses as little as possible."""
    assert TermSet(["forbidden"]).cut("a b c Forbidden, d e f") == ["a b c", "d e f"]
    assert TermSet(["whole milk"]).cut("the whole milk, whole") == ["the whole", "milk, whole"]
    assert TermSet(["x y", "y"]).cut("y x-y x z") == ["x z"]
    assert TermSet(["a a a"]).cut("a a a a a") == ["a a", "a a", "a"]
    assert TermSet().cut(" a  b ") == ["a b"]


@given(
    text=st.lists(st.sampled_from("a b c d a-b c'd".split()), max_size=20).map(" ".join),
    terms=st.lists(
        st.lists(st.sampled_from("a b c d".split()), min_size=1, max_size=3).map(" ".join),
        max_size=4,
    ),
)
def test_cutting_keeps_all_but_terms(text: str, terms: list[str]) -> None:
    """No run says a term; tokens stay in order, and only those that are a term go."""
    excluded = TermSet(terms)
    runs = excluded.cut(text)
    assert not any(excluded.found_in(run) for run in runs)
    kept = [token for token in text.split() if not excluded.found_in(token)]
    assert [token for run in runs for token in run.split()] == kept


def test_excluded_words_are_never_spoken() -> None:
    """Neither by sentences nor by carriers, in any case or possessive form given."""
    text = TrainingText(SENTENCES, RARE, exclude=["Witness", "voussoir"], seed=3)
    spoken = {word for number in range(400) for word in words_of(text[number].text)}
    assert "witness" not in spoken
    assert "voussoir" not in spoken
    assert {"apixaban", "harbour"} <= spoken


def test_carriers_do_not_say_excluded_words_either() -> None:
    """What stands between the terms is held to the exclusion, to the last carrier."""
    plain = TrainingText(SENTENCES, RARE, seed=3)
    assert {"meeting", "train"} <= {w for n in range(400) for w in words_of(plain[n].text)}
    text = TrainingText(SENTENCES, RARE, exclude=["meeting", "train"], seed=3)
    assert {"meeting", "train"}.isdisjoint(w for n in range(400) for w in words_of(text[n].text))
    none_left = TrainingText(["foxes jump fences daily"], RARE, exclude=words_of(str(_CARRIERS)))
    assert {w for n in range(50) for w in words_of(none_left[n].text)} & set(RARE)


def test_excluded_phrases_do_not_arise_from_their_words() -> None:
    """A list or two joined sentences may not say a phrase whose words are all allowed."""
    phrases = TermSet(["apixaban quixotic", "us sentence", "the harbour"])
    plain = TrainingText(SENTENCES, RARE, seed=3)
    heard = set().union(*(phrases.found_in(plain[n].text) for n in range(600)))
    assert heard == phrases.terms
    text = TrainingText(SENTENCES, RARE, exclude=map(" ".join, phrases.terms), seed=3)
    assert not any(phrases.found_in(text[n].text) for n in range(600))
    assert {"apixaban", "quixotic", "harbour"} <= {
        w for n in range(600) for w in words_of(text[n].text)
    }


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
