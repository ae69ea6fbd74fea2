"""The prompt names what fits, in the words of the model's family, and reports what does not."""

from __future__ import annotations

import pytest

from a2p_engine.prompt import BARE_LIST, GLOSSARY, SENTENCE, PromptTemplate, build_prompt, pairs


def _words(text: str) -> int:
    return len(text.split())


def test_everything_fits() -> None:
    """All terms, most probable first."""
    prompt = build_prompt(["apixaban", "warfarin"], budget_tokens=20, count_tokens=_words)
    assert prompt.text == "Glossary: apixaban, warfarin."
    assert (prompt.terms, prompt.trimmed) == (("apixaban", "warfarin"), 0)


def test_the_least_probable_are_trimmed_and_counted() -> None:
    """A budget of three words has room for two terms."""
    prompt = build_prompt(["a", "b", "c", "d"], budget_tokens=3, count_tokens=_words)
    assert (prompt.text, prompt.terms, prompt.trimmed) == ("Glossary: a, b.", ("a", "b"), 2)


def test_no_terms_no_prompt() -> None:
    """Without terms, or without room for one, the model is told nothing."""
    assert build_prompt([], budget_tokens=9, count_tokens=_words).text == ""
    nothing = build_prompt(["a"], budget_tokens=1, count_tokens=_words)
    assert (nothing.text, nothing.trimmed) == ("", 1)


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        (BARE_LIST, "apixaban, INR."),
        (GLOSSARY, "Glossary: apixaban, INR."),
        (SENTENCE, "The speaker talks about apixaban, INR."),
        (PromptTemplate(opening="Terms:\n- ", joint="\n- "), "Terms:\n- apixaban\n- INR"),
    ],
)
def test_the_wording_is_the_models(wording: PromptTemplate, text: str) -> None:
    """To the letter."""
    built = build_prompt(
        ["apixaban", "INR"], budget_tokens=20, count_tokens=_words, wording=wording
    )
    assert built.text == text


def test_a_translator_is_told_of_pairs() -> None:
    """Source and target count towards the room; what is written is the target."""
    sources, targets = ["heart attack", "INR", "stroke"], ["Herzinfarkt", "INR", "Schlaganfall"]
    assert pairs(sources, targets) == ["heart attack: Herzinfarkt", "INR", "stroke: Schlaganfall"]
    prompt = build_prompt(targets, sources=sources, budget_tokens=5, count_tokens=_words)
    assert prompt.text == "Glossary: heart attack: Herzinfarkt, INR."
    assert (prompt.terms, prompt.trimmed) == (("Herzinfarkt", "INR"), 1)


def test_pairs_need_both_sides() -> None:
    """A list that is too short is a mistake of the caller, not a shorter prompt."""
    with pytest.raises(ValueError, match="argument 2 is longer"):
        build_prompt(["a", "b"], sources=["a"], budget_tokens=9, count_tokens=_words)
