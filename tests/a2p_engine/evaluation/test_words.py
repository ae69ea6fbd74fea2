"""Word errors: normalisation, alignment, and the split between terms and other words."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from a2p_engine.evaluation.words import (
    ErrorSplit,
    TermFinder,
    align,
    normalised,
    split_errors,
)

SENTENCES = st.lists(st.sampled_from("a b c d e".split()), max_size=9).map(tuple)


def _split(reference: str, hypothesis: str, *terms: str) -> ErrorSplit:
    return split_errors(
        normalised(reference), normalised(hypothesis), [normalised(term) for term in terms]
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mr. Fain's twenty-one dogs", "mister fain's 21 dogs"),
        ("It's 5 o'clock.", "its 5 oclock"),
        ("ill-disposed, Dr. Müller!", "ill disposed doctor muller"),
        ("Walker\N{RIGHT SINGLE QUOTATION MARK}s", "walker's"),
        ("the felon and the...", "The felon, and the"),
    ],
)
def test_spelling_conventions_are_no_errors(written: str, said: str) -> None:
    """Case, punctuation, numbers, titles, accents and apostrophes do not count."""
    assert normalised(written) == normalised(said)


def test_errors_are_split_as_in_the_field() -> None:
    """Errors at the utterance's own terms are biased; a distractor is charged to the others."""
    split = _split(
        "doctor fain gave her apixaban today",
        "doctor fein gave her apixaban voussoir today today",
        "fain",
        "apixaban",
    )
    assert split == ErrorSplit(biased_errors=1, biased_words=2, other_errors=2, other_words=4)


def test_an_inserted_term_is_biased_when_it_is_one_of_the_utterance() -> None:
    """The scorer of fbai-speech asks whether the inserted word is one of the rare words."""
    split = _split("call fain", "call fain fain", "fain")
    assert (split.biased_errors, split.other_errors) == (1, 0)


def test_all_words_of_a_phrase_are_biased_where_it_occurs_and_only_there() -> None:
    """A multi-word term marks its occurrences, not each of its words anywhere."""
    split = _split("the light roast in the light", "a bright roast in the night", "light roast")
    assert split == ErrorSplit(biased_errors=1, biased_words=2, other_errors=2, other_words=4)


def test_nothing_written_is_all_deletions() -> None:
    """An empty hypothesis loses every word, an empty reference has only insertions."""
    assert _split("call fain", "", "fain") == ErrorSplit(1, 1, 1, 1)
    assert _split("", "call fain") == ErrorSplit(0, 0, 2, 0)


@given(SENTENCES, SENTENCES)
def test_the_alignment_is_the_cheapest(
    reference: tuple[str, ...], hypothesis: tuple[str, ...]
) -> None:
    """It costs what an independent weighted edit distance does; no word is lost or moved."""
    steps = align(reference, hypothesis)
    assert [i for i, _ in steps if i is not None] == list(range(len(reference)))
    assert [j for _, j in steps if j is not None] == list(range(len(hypothesis)))
    gaps = sum(i is None or j is None for i, j in steps)
    swaps = sum(i is not None and j is not None and reference[i] != hypothesis[j] for i, j in steps)
    cheapest = Levenshtein.distance(reference, hypothesis, weights=(3, 3, 4))
    assert 3 * gaps + 4 * swaps == cheapest


@given(SENTENCES.filter(bool), SENTENCES, st.sets(st.sampled_from("abcde")))
def test_both_parts_add_up_to_the_word_error_rate(
    reference: tuple[str, ...], hypothesis: tuple[str, ...], terms: set[str]
) -> None:
    """Never fewer errors than jiwer's minimum, and at most a third more, whatever the terms."""
    split = split_errors(reference, hypothesis, [(term,) for term in terms])
    assert split.words == len(reference)
    assert split.biased_words == sum(word in terms for word in reference)
    measures = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    least = measures.substitutions + measures.deletions + measures.insertions
    assert least <= split.errors <= 4 / 3 * least


def test_terms_are_found_as_whole_words_in_any_spelling() -> None:
    """Phrases too; parts of words are no terms, and what normalises to nothing is never found."""
    finder = TermFinder(["Light Roast", "fain's", "rand", "hmm"])
    found = finder.find(normalised("A light-roast for Fain's grandmother, hmm."))
    assert found == {("light", "roast"), ("fains",)}
    assert finder.find(()) == set()
