"""A list in a prompt is a glossary, prose is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.dialects.prompt_terms import prompt_terms


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("apixaban, warfarin, Factor Xa", ("apixaban", "warfarin", "Factor Xa")),
        (
            "Dr. Watson, Mrs. Hudson, St. John's wort",
            ("Dr. Watson", "Mrs. Hudson", "St. John's wort"),
        ),
        ("apixaban; warfarin", ("apixaban", "warfarin")),
        ("- apixaban\n- warfarin\n\n1. Factor Xa\n", ("apixaban", "warfarin", "Factor Xa")),
        ("apixaban, Node.js, apixaban,, C++", ("apixaban", "Node.js", "C++")),
        ("Glossary: apixaban, warfarin.", ("apixaban", "warfarin")),
        ("key terms: apixaban", ("apixaban",)),
        ("血栓、抗凝固薬", ("血栓", "抗凝固薬")),
    ],
)
def test_lists(prompt: str, terms: tuple[str, ...]) -> None:
    """With commas, semicolons, lines, bullets or a label; each term once, in order."""
    assert prompt_terms(prompt) == terms


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " , \n",
        "apixaban",
        "Okay, so that is it.",
        "Umm, let me think like, hmm... Okay, here's what I'm, like, thinking.",
        "The patient was given apixaban, which is an anticoagulant that is taken twice a day",
        "Is it apixaban, or warfarin?",
        "She said yes\nThen she left.",
        "Yes, that is the plan. And, of course",
        "The glossary: we should talk about it, since nobody has read what it says so far",
    ],
)
def test_prose(prompt: str) -> None:
    """Sentences, single words and earlier captions have no terms."""
    assert prompt_terms(prompt) == ()


@given(st.text())
def test_any_text(prompt: str) -> None:
    """Whatever comes: terms without line ends or commas, none twice."""
    terms = prompt_terms(prompt)
    assert len(set(terms)) == len(terms)
    assert all(term == term.strip() and term and "," not in term for term in terms)
