"""Terms to prompt text, within what the speech LLM has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEADING = "Glossary"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What the speech LLM is told besides the audio.

    Attributes:
        text: the prompt's text, empty when there is nothing to tell.
        terms: the terms it names, most probable first.
        trimmed: number of terms that found no room.
    """

    text: str
    terms: tuple[str, ...]
    trimmed: int


def build_prompt(
    terms: Sequence[str], *, budget_tokens: int, count_tokens: Callable[[str], int]
) -> Prompt:
    """Name as many terms as fit, most probable first.

    On Whisper base, "Glossary: ..." brought more rare words out right than the bare list.

    Args:
        terms: most probable first.
        budget_tokens: tokens the model has room for.
        count_tokens: length of a text in the model's tokens.
    """
    kept = list(terms)
    while kept:
        text = f"{HEADING}: {', '.join(kept)}."
        if count_tokens(text) <= budget_tokens:
            return Prompt(text=text, terms=tuple(kept), trimmed=len(terms) - len(kept))
        kept.pop()
    return Prompt(text="", terms=(), trimmed=len(terms))
