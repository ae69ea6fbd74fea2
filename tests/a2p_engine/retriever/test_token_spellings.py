"""Terms in tokens."""

from __future__ import annotations

from collections.abc import Sequence

from a2p_engine.retriever.token_spellings import TokenSpellings, rarity

NUMBERS = {" saturday": [700, 90], " Saturday": [800], " satterday": [40, 5000], " Satterday": [50]}


def test_the_more_common_way_to_write_a_term_counts() -> None:
    """Both are kept; a term is looked up once."""
    asked: list[str] = []

    def tokenize(texts: Sequence[str]) -> list[list[int]]:
        asked.extend(texts)
        return [NUMBERS[text] for text in texts]

    spellings = TokenSpellings(tokenize)
    found = spellings.of(["saturday"])["saturday"]
    assert found.tokens == [[700, 90], [800]] and found.rarity == rarity([800])
    assert set(spellings.of(["saturday", "satterday"])) == {"saturday", "satterday"}
    assert asked == list(NUMBERS)


def test_rare_words_have_late_tokens_or_many() -> None:
    """Words of a phrase are not counted against it."""
    assert rarity([300]) < rarity([9000]) < rarity([300, 400, 500, 600, 700])
    assert rarity([300, 400], words=2) == rarity([400])
    assert rarity([]) == 0.0
