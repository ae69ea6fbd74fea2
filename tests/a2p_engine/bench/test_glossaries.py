"""Made-up glossaries: distinct terms, tokens shared as a tokenizer shares them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from a2p_engine.bench.glossaries import GlossaryMaker
from a2p_engine.retriever.term_table import TermTable

WHISPER = 51_865


@pytest.fixture(scope="module")
def maker() -> GlossaryMaker:
    """Over Whisper's vocabulary."""
    return GlossaryMaker(WHISPER, seed=1)


@pytest.mark.parametrize(("terms", "low", "high"), [(1_000, 1_000, 1_400), (10_000, 6_300, 6_700)])
def test_small_glossaries_share_tokens(
    maker: GlossaryMaker, terms: int, low: int, high: int
) -> None:
    """Ten thousand rare words have about 6,500 distinct tokens, three a term."""
    glossary = maker.make(terms)
    assert low < len(glossary.distinct) < high
    assert glossary.lengths.mean() == pytest.approx(3, abs=0.1)
    assert glossary.lengths.min() == 1


def test_a_million_terms_use_nearly_the_whole_vocabulary(maker: GlossaryMaker) -> None:
    """No token lies outside it."""
    glossary = maker.make(1_000_000)
    assert len(glossary) == 1_000_000
    assert len(glossary.distinct) > 0.95 * WHISPER
    assert 0 <= glossary.distinct[0] < glossary.distinct[-1] < WHISPER


def test_terms_are_words_and_no_two_are_alike(maker: GlossaryMaker) -> None:
    """One to three words of syllables; numbers that go on make terms that are new."""
    texts = [*maker.make(20_000).texts, *maker.make(1_000, first=20_000).texts]
    assert len(set(texts)) == 21_000
    assert all(re.fullmatch(r"([b-z][aeiou]){4}( ([b-z][aeiou]){3}){0,2}", text) for text in texts)
    assert {text.count(" ") for text in texts} == {0, 1, 2}


def test_the_columns_are_those_of_the_terms(maker: GlossaryMaker) -> None:
    """The table made at once equals the one made from Term objects."""
    glossary = maker.make(300)
    made, expected = glossary.table(), TermTable.of(glossary.terms())
    assert [made[n] for n in range(300)] == [expected[n] for n in range(300)]
    for column in ("weights", "enabled", "hashes", "hashed"):
        np.testing.assert_array_equal(getattr(made, column), getattr(expected, column))
    assert made.find(glossary.texts[123]) == 123


def test_tokens_term_by_term(maker: GlossaryMaker) -> None:
    """Lists of one spelling each, which joined are the column."""
    glossary = maker.make(50)
    tokens = glossary.tokens()
    assert [len(spelling) for (spelling,) in tokens] == glossary.lengths.tolist()
    assert [t for (spelling,) in tokens for t in spelling] == glossary.token_ids.tolist()


def test_the_seed_decides() -> None:
    """The same seed draws the same glossary, another one another."""
    first, same, other = (GlossaryMaker(WHISPER, seed).make(100) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.token_ids, same.token_ids)
    assert list(first.texts) == list(same.texts)
    assert first.token_ids.tolist() != other.token_ids.tolist()
