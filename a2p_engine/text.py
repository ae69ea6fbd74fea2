"""Comparing texts the way a reader does: without case and punctuation."""

from __future__ import annotations

import unicodedata

# What may or may not be written inside a term without making it another one.
_SOFT = "-‐‑–'’.,"  # noqa: RUF001


def plain(text: str) -> str:
    """Case-folded words, single spaces, no punctuation; accents stay."""
    kept = (char if char.isalnum() else " " for char in text.casefold())
    return " ".join("".join(kept).split())


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
