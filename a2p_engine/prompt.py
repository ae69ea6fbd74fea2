"""Terms and earlier text to a prompt, within what the speech LLM has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEADING = "Glossary"
JOINT = ", "  # between two terms
PAIRED = ": "  # between a term and its translation

# Terms, most probable first, to the text that tells a model of them.
Wording = Callable[[Sequence[str]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTemplate:
    """How a family of models is told of terms; a ``Wording``.

    Attributes:
        opening: before the first term.
        closing: behind the last one.
        joint: between two.
    """

    opening: str = ""
    closing: str = ""
    joint: str = JOINT

    def __call__(self, terms: Sequence[str]) -> str:
        """The text with these terms."""
        return f"{self.opening}{self.joint.join(terms)}{self.closing}"


# Models that go on with a text and take no orders, as Whisper.
BARE_LIST = PromptTemplate(closing=".")
GLOSSARY = PromptTemplate(opening=f"{HEADING}: ", closing=".")
SENTENCE = PromptTemplate(opening="The speaker talks about ", closing=".")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What the speech LLM is told besides the audio.

    Attributes:
        text: the prompt's text, empty when there is nothing to tell.
        terms: the terms it names, as they are to be written, most probable first.
        trimmed: number of terms that found no room.
        told: the same terms as the text tells of them: as they are, or as pairs.
        context: what was written before, told apart from the terms.
    """

    text: str
    terms: tuple[str, ...]
    trimmed: int
    told: tuple[str, ...] = ()
    context: str = ""

    @property
    def opening(self) -> str:
        """What stands before the first term."""
        return self.text.rpartition(JOINT.join(self.told))[0].strip() if self.told else ""


def build_prompt(
    terms: Sequence[str],
    *,
    budget_tokens: int,
    count_tokens: Callable[[str], int],
    wording: Wording = GLOSSARY,
    sources: Sequence[str] = (),
) -> Prompt:
    """Name as many terms as fit, most probable first.

    Args:
        terms: as they are to be written, most probable first.
        budget_tokens: tokens the model has room for.
        count_tokens: length of a text in the model's tokens.
        wording: how the model is told of terms.
        sources: the terms as they are said, for models that take "source: target" pairs; a term
            that is said as it is written makes no pair.
    """
    told = pairs(sources, terms) if sources else list(terms)
    for count in range(len(told), 0, -1):
        text = wording(told[:count])
        if count_tokens(text) <= budget_tokens:
            return Prompt(
                text=text,
                terms=tuple(terms[:count]),
                trimmed=len(terms) - count,
                told=tuple(told[:count]),
            )
    return Prompt(text="", terms=(), trimmed=len(terms))


def pairs(sources: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Each term of a bilingual glossary as a translator is told of it."""
    return [
        target if source == target else f"{source}{PAIRED}{target}"
        for source, target in zip(sources, targets, strict=True)
    ]
