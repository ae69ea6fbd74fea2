"""What of a prompt is listened for: lists as a whole, of prose only what is worth it."""

from __future__ import annotations

import pytest

from streaming.dialects.realtime.prompt import MAX_CONTEXT_TERMS, terms_of


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("", ()),
        ("apixaban", ("apixaban",)),
        ("ZyntriQix, Digique Plus; co-amoxiclav ", ("ZyntriQix", "Digique Plus", "co-amoxiclav")),
        ("apixaban\n\nINR\napixaban", ("apixaban", "INR")),
        ("Glossary: INR, apixaban", ("INR", "apixaban")),
        (
            "isosorbide mononitrate, of four words each",
            ("isosorbide mononitrate", "of four words each"),
        ),
    ],
)
def test_short_entries_between_commas_or_lines_are_terms(prompt: str, terms: tuple[str]) -> None:
    """As Whisper's users are used to write them."""
    assert terms_of(prompt) == terms


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("Expect words that have to do with the heart.", ()),
        (
            "The patient of Dr Adeyemi Cole takes 5mg of it for AF.",
            ("Dr Adeyemi Cole", "5mg", "AF"),
        ),
        ("A dose of empagliflozin, then, as we said before.", ("empagliflozin",)),
        ("It has 42 beds. Nobody stays there for long now.", ()),
    ],
)
def test_of_prose_names_and_long_words_are_terms(prompt: str, terms: tuple[str]) -> None:
    """But neither how sentences begin nor what everybody says."""
    assert terms_of(prompt) == terms


def test_lists_and_prose_may_be_mixed() -> None:
    """As a meeting's prompt is: a list of its own, then what others have said."""
    prompt = (
        "apixaban, INR\n\nThe words of the others were these, as far as is known.\n"
        "p1: We gave him clarithromycin.\np2: Okay."
    )
    assert terms_of(prompt) == ("apixaban", "INR", "clarithromycin")


def test_of_much_context_the_latest_counts() -> None:
    """A prompt has no end; what was said last is what is being spoken of."""
    said = [f"And then he said Name{number} to her." for number in range(3000)]
    terms = terms_of("\n".join(said))
    assert len(terms) == MAX_CONTEXT_TERMS
    assert terms[-1] == "Name2999"
