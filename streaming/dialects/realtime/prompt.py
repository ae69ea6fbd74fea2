"""Glossary terms out of a ``prompt``, which is a list for some clients and prose for others.

A line of short entries between commas is a list, and all of them are terms. Any other line is
context, of which the words are taken that a speech model is likely not to know: names in the middle
of a sentence, words with digits or capitals inside, and long words. What is common among them does
no harm: a term is written only where it is heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from a2p_engine.glossary import MAX_TERM_CHARS

MAX_LISTED_WORDS = 4
# Of longer context the latest, as it is nearest to what is being said.
MAX_CONTEXT_CHARS = 20_000
MAX_CONTEXT_TERMS = 200
LONG_WORD_CHARS = 9

SEPARATORS = re.compile(r"[,;]")
LIST_LABEL = re.compile(r"^\s*(glossary|keywords?|names|terms|vocabulary)\s*:", re.IGNORECASE)
SPEAKER = re.compile(r"^\s*[^\s:]+:\s")
SENTENCE_MARKS = re.compile(r"[.!?:](\s|$)")
SENTENCE_START = re.compile(r"[.!?:\n]\W*$")
WORD = re.compile(r"\w[\w'’-]*")


def terms_of(prompt: str) -> tuple[str, ...]:
    """The terms of a prompt, without repeats: listed ones, then those of the context."""
    listed: list[str] = []
    context: list[str] = []
    for line in prompt.splitlines():
        entries = _entries(LIST_LABEL.sub("", line))
        if entries is None:
            context.append(SPEAKER.sub("", line))
        else:
            listed.extend(entries)
    notable = list(_notable("\n".join(context)[-MAX_CONTEXT_CHARS:]))
    latest = list(dict.fromkeys(reversed(notable)))[:MAX_CONTEXT_TERMS]
    return tuple(dict.fromkeys([*listed, *reversed(latest)]))


def _entries(line: str) -> list[str] | None:
    """The entries of a line that is a list, None for one that is not."""
    entries = [entry for piece in SEPARATORS.split(line) if (entry := piece.strip())]
    short = all(len(entry.split()) <= MAX_LISTED_WORDS for entry in entries)
    return entries if short and not SENTENCE_MARKS.search(line) else None


def _notable(text: str) -> Iterator[str]:
    """Words worth listening for; names of several words stay together."""
    name, end = "", 0
    for word in WORD.finditer(text):
        between = text[end : word.start()]
        first = not end or SENTENCE_START.search(between) is not None
        end = word.end()
        if _is_name(word[0], first_of_sentence=first):
            if name and between == " " and len(name) + len(word[0]) < MAX_TERM_CHARS:
                name = f"{name} {word[0]}"
                continue
            if name:
                yield name
            name = word[0]
            continue
        if name:
            yield name
        name = ""
        if len(word[0]) >= LONG_WORD_CHARS:
            yield word[0]
    if name:
        yield name


def _is_name(word: str, *, first_of_sentence: bool) -> bool:
    if any(letter.isupper() for letter in word[1:]):
        return True
    if any(letter.isdigit() for letter in word):
        return not word.isdigit()
    return word[0].isupper() and not first_of_sentence and len(word) > 1
