"""The prompt names what fits and reports what does not."""

from __future__ import annotations

from a2p_engine.prompt import build_prompt


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
    assert (prompt.terms, prompt.trimmed) == (("a", "b"), 2)


def test_no_terms_no_prompt() -> None:
    """Without terms, or without room for one, the model is told nothing."""
    assert build_prompt([], budget_tokens=9, count_tokens=_words).text == ""
    nothing = build_prompt(["a"], budget_tokens=1, count_tokens=_words)
    assert (nothing.text, nothing.trimmed) == ("", 1)
