"""Glossary terms in the free text that OpenAI's interfaces call a prompt."""

from __future__ import annotations

import re

MAX_ITEM_WORDS = 6
MAX_ITEM_CHARS = 80
_LABEL = re.compile(
    r"\s*(?:the\s+)?(?:glossary|vocabulary|keywords?|key\s?terms?|terms?|names?|spellings?)\s*:",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[,;\n、，；]")  # noqa: RUF001, full-width marks are meant
_BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+")
# Shorter words with a full stop are titles and the like: "Dr. Watson".
_SENTENCE_END = re.compile(r"[?!…。？！](?:\s|$)|(?:\w{4,}|\.)\.\s|\.$")  # noqa: RUF001


def prompt_terms(prompt: str) -> tuple[str, ...]:
    """The terms of a prompt that is a list of them, in order, each once; none of any other prompt.

    A list is at least two short items with commas, semicolons or line ends between them, without
    the end of a sentence; or any items behind "Glossary:" or the like. Prose has no terms: clients
    also send what was said before, and of that nobody knows which words are special.
    """
    label = _LABEL.match(prompt)
    listed = prompt[label.end() :].strip().removesuffix(".") if label else prompt
    items = [_BULLET.sub("", item.strip()) for item in _SEPARATORS.split(listed)]
    terms = [item for item in items if item]
    if len(terms) < (1 if label else 2) or not all(map(_short, terms)):
        return ()
    return tuple(dict.fromkeys(terms))


def _short(item: str) -> bool:
    fits = len(item) <= MAX_ITEM_CHARS and len(item.split()) <= MAX_ITEM_WORDS
    return fits and not _SENTENCE_END.search(item)
