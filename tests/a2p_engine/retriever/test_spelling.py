"""What counts as spelt out: apostrophes, figures, quotation marks, other ways to write it."""

from __future__ import annotations

import pytest

from a2p_engine.retriever.spelling import Spellings, spelling, words_only


def _text(*words: str) -> Spellings:
    return Spellings([[(word, 10 * n, 10 * n + 10) for n, word in enumerate(words)]])


@pytest.mark.parametrize(
    ("written", "term", "spelt"),
    [
        ("and", "and'", False),
        ("and'", "and'", True),
        ("and'", "and", True),
        ("'Tis'", "tis", True),
        ("'tis", "'tis", True),
        ("couldn\N{RIGHT SINGLE QUOTATION MARK}t", "couldn't", True),
        ("couldn't", "couldn", False),
        ("workers", "workers'", False),
        ("light-roast", "light roast", True),
        ("light roast", "Light-Roast", True),
        ("12 ounce", "twelve ounce", True),
        ("12-ounce", "12 ounce", True),
        ("25", "twenty five", True),
        ("20", "twenty", True),
        ("07", "seven", True),
        ("125", "twenty five", False),
        ("²", "two", False),
    ],
)
def test_what_is_written_spells_a_term(written: str, term: str, spelt: bool) -> None:
    """Whole words, whatever stands around them."""
    assert _text("of", *written.split(), "said").contain(term, 10, 20) is spelt


def test_no_run_goes_beyond_its_stretch() -> None:
    """Nor is it found where it does not stand."""
    parted = Spellings([[("new", 0, 9)], [("york", 9, 18)]])
    assert not parted.contain("new york", 0, 18)
    assert parted.contain("york", 9, 18)
    assert not parted.contain("york new", 0, 18)


def test_a_long_term_is_spelt_out_as_a_short_one_is() -> None:
    """However many words it has; its beginning alone is not enough, nor is another place."""
    written = _text(*"So Act 12 of the Rights, of Persons WITH Disabilities said so".split())
    term = "act twelve of the rights of persons with disabilities"
    assert written.contain(term, 10, 100)
    assert not written.contain(f"{term} act", 10, 100)
    assert not written.contain(term, 110, 120)
    assert not written.contain(term.replace("persons", "people"), 10, 100)
    parted = Spellings([[(word, 0, 9) for word in "a b c d e f".split()], [("g", 9, 18)]])
    assert parted.contain("a b c d e f", 0, 18)
    assert not parted.contain("a b c d e f g", 0, 18)


def test_texts_are_what_a_glossary_may_have() -> None:
    """As written, in lower case, with capitals, and in capitals."""
    texts = _text("eGFR", "of", "20,").texts
    assert {"eGFR", "egfr", "EGFR", "eGFR of", "EGFR Of", "twenty", "20"} <= set(texts)
    assert len(texts) == len(set(texts))
    assert _text().texts == []


def test_only_inner_apostrophes_belong_to_words() -> None:
    """And no other punctuation does, but an apostrophe at the edge is part of a spelling."""
    assert words_only("'Tis the rock'n'roll, workers'!") == "Tis the rock'n'roll workers"
    assert spelling("Workers' Rock-'n'-Roll!") == "workers' rock 'n' roll"
