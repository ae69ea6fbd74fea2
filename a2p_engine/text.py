"""Comparing texts the way a reader does: without case and punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, Han. Each character is a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_UNSPACED_CHARACTER = re.compile(f"([{UNSPACED}])")
# What may or may not be written inside a term without making it another one.
_SOFT = "-‐‑–'’.,"  # noqa: RUF001


def plain(text: str) -> str:
    """Case-folded words, single spaces, no punctuation; accents stay."""
    kept = "".join(char if char.isalnum() else " " for char in text.casefold())
    return " ".join(_UNSPACED_CHARACTER.sub(r" \1 ", kept).split())


def letters(text: str) -> str:
    """What is left of a term without case, accents, spaces, hyphens, apostrophes and points.

    ``E-mail`` is ``email`` and ``Café`` is ``cafe``, but ``C++`` is not ``C``.
    """
    kept = (
        char
        for char in unicodedata.normalize("NFKD", text.casefold())
        if not (char.isspace() or char in _SOFT or unicodedata.combining(char))
    )
    return "".join(kept)


def mentions(text: str, term: str) -> bool:
    """Whether a text contains a term as whole words."""
    wanted = plain(term)
    return bool(wanted) and f" {wanted} " in f" {plain(text)} "


def occurrences(words: Sequence[str], term: str) -> list[range]:
    """Where a term is written in full: ranges of the words, none overlapping another."""
    wanted = plain(term).split()
    said = [(part, place) for place, word in enumerate(words) for part in plain(word).split()]
    found: list[range] = []
    at = 0
    while wanted and at + len(wanted) <= len(said):
        run = said[at : at + len(wanted)]
        if [part for part, _ in run] == wanted:
            found.append(range(run[0][1], run[-1][1] + 1))
            at += len(wanted)
        else:
            at += 1
    return found


def shared_words(words: Sequence[str], beginning: str) -> int:
    """How many of the words a text begins with, spaces included."""
    written = ""
    for count, word in enumerate(words):
        written += word if count else word.lstrip()
        if not beginning.startswith(written):
            return count
    return len(words)
