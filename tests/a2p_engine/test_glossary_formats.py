"""The forms of a glossary: what is read of each, and that what is written is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine import glossary
from a2p_engine.errors import GlossaryError
from a2p_engine.glossary_formats import READ, Languages, render
from a2p_engine.types import Term

TEXTS = st.text(min_size=1, max_size=40).map(glossary.normalise)
SPELLINGS = TEXTS.filter(lambda text: any(char.isalnum() for char in text))
TERMS = st.lists(
    st.builds(
        Term,
        text=SPELLINGS,
        sounds_like=st.lists(SPELLINGS.filter(lambda text: "|" not in text), max_size=3).map(tuple),
        target=st.none() | SPELLINGS,
        weight=st.floats(min_value=1e-3, max_value=1000.0),
        enabled=st.booleans(),
    ),
    max_size=20,
    unique_by=lambda term: term.text,
)


@given(TERMS, st.sampled_from(["csv", "tsv", "json"]))
def test_what_is_written_is_read_back(terms: list[Term], form: str) -> None:
    """All fields survive CSV, TSV and JSON, whatever characters they hold."""
    data = "".join(render(terms, form)).encode()
    parsed = glossary.parse(data, form)
    assert (parsed.terms, parsed.rejected) == (terms, [])


@given(TERMS)
def test_terms_of_text_files_are_read_back(terms: list[Term]) -> None:
    """Text keeps the terms, those that look like a comment included."""
    data = "".join(render(terms, "txt")).encode()
    parsed = glossary.parse(data, "txt")
    assert [term.text for term in parsed.terms] == [term.text for term in terms]
    assert parsed.rejected == []


@given(st.text(max_size=40))
def test_a_normal_text_stays_as_it_is(text: str) -> None:
    """Otherwise a term would be another one each time it is read."""
    once = glossary.normalise(text)
    assert glossary.normalise(once) == once
    assert glossary.normalise("e\u200b\u0301") == "\u00e9"


def test_a_term_may_begin_with_a_hash() -> None:
    """A backslash tells such a term from a comment."""
    parsed = glossary.parse(b"# a comment\n\\#MeToo\n\\alpha\n\\\\#x\n", "txt")
    assert [term.text for term in parsed.terms] == ["#MeToo", "\\alpha", "\\#x"]


def test_writing_goes_piece_by_piece() -> None:
    """A long glossary is not made into one string."""
    terms = [Term(text=f"term {number}") for number in range(2500)]
    assert len(list(render(terms, "csv"))) == 3
    assert json.loads("".join(render(terms, "json")))[2499] == "term 2499"
    assert json.loads("".join(render([], "json"))) == []


@given(st.sampled_from(READ), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(form: str, data: bytes) -> None:
    """No input raises anything but the error that callers know."""
    try:
        glossary.parse(data, form)
    except GlossaryError as error:
        assert str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda child: st.lists(child) | st.dictionaries(st.text(max_size=8), child),
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Reading a list item by item agrees with the library on what is in it."""
    text = json.dumps(value)
    try:
        parsed = glossary.parse(text.encode(), "json")
    except GlossaryError:
        assert not isinstance(value, list)
        return
    if isinstance(value, list):
        assert len(parsed.terms) + len(parsed.rejected) == len(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a",]', "not JSON: .*trailing comma"),
        ('["a" "b"]', "not JSON: Expecting ','"),
        ('["a"] x', "not JSON: Extra data"),
        ('["a"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ("[" + "9" * 5000 + "]", "not JSON"),
        ('"apixaban"', "must be a list"),
        ('{"en": ["a"], "zh": [1]}', "a list of strings for each language"),
        ('{"en": ["a", "b"], "zh": ["x"]}', "equally long; there are 2 in 'en', 1 in 'zh'"),
    ],
)
def test_unusable_json_says_why(text: str, message: str) -> None:
    """One clear line, and never an error of the library."""
    with pytest.raises(GlossaryError, match=message):
        glossary.parse(text.encode(), "json")


def test_a_number_beyond_all_bounds_is_no_weight() -> None:
    """An integer too large for a float is refused like any other bad weight."""
    parsed = glossary.parse(f'[{{"term": "a", "weight": 1{"0" * 400}}}]'.encode(), "json")
    assert parsed.rejected[0][1] == "'weight' must be a number"


def test_term_bank_gives_terms_with_their_translations() -> None:
    """Positions are aligned; a blank translation is none; each language can be the spoken one."""
    bank = json.dumps({"en": ["heart attack", "stroke"], "zh": ["心肌梗死", ""]}).encode()
    assert glossary.parse(bank, "json").terms == [
        Term(text="heart attack", target="心肌梗死"),
        Term(text="stroke"),
    ]
    chinese = glossary.parse(bank, "json", Languages(spoken="zh"))
    assert chinese.terms == [Term(text="心肌梗死", target="heart attack")]


def test_which_of_several_languages_is_read_can_be_said() -> None:
    """With three languages there is no translation unless one is asked for."""
    bank = json.dumps({"en": ["dog"], "de": ["Hund"], "fr": ["chien"]}).encode()
    assert glossary.parse(bank, "json").terms == [Term(text="dog")]
    both = Languages(spoken="de", target="fr")
    assert glossary.parse(bank, "json", both).terms == [Term(text="Hund", target="chien")]
    with pytest.raises(GlossaryError, match="no language 'it'; it has en, de, fr"):
        glossary.parse(bank, "json", Languages(spoken="it"))


def test_a_glossary_without_english_asks_unless_it_has_one_language() -> None:
    """Nothing is guessed where there is a choice."""
    assert glossary.parse(b'{"de": ["Hund"]}', "json").terms == [Term(text="Hund")]
    with pytest.raises(GlossaryError, match="it is in de, fr; say which language is spoken"):
        glossary.parse(b'{"de": ["Hund"], "fr": ["chien"]}', "json")


def test_a_language_includes_its_regions() -> None:
    """``en`` reads ``en_US`` and ``en-GB``; ``en-GB`` reads itself alone."""
    bank = json.dumps({"en_US": ["elevator"], "en-GB": ["lift"], "de": ["Aufzug"]}).encode()
    assert [term.text for term in glossary.parse(bank, "json").terms] == ["elevator", "lift"]
    british = glossary.parse(bank, "json", Languages(spoken="en-GB"))
    assert british.terms == [Term(text="lift", target="Aufzug")]


def test_spreadsheets_write_utf16() -> None:
    """What spreadsheets call Unicode text is UTF-16 with a byte order mark."""
    parsed = glossary.parse("term\ttarget\nGödel\tX1\n".encode("utf-16"), "tsv")
    assert parsed.terms == [Term(text="Gödel", target="X1")]
    assert parsed.notes == ["read as UTF-16"]


def test_unknown_forms_name_the_known(tmp_path: Path) -> None:
    """Reading and writing say what they accept."""
    with pytest.raises(GlossaryError, match="unknown form 'xls'; accepted are txt, csv, tsv, json"):
        glossary.parse(b"", "xls")
    with pytest.raises(GlossaryError, match="cannot write the form 'tbx'"):
        render([], "tbx")
    with pytest.raises(GlossaryError, match=r"unknown form \.doc; accepted are \.txt"):
        glossary.form_of(tmp_path / "x.doc")
