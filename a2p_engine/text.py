"""Comparing texts the way a reader does: without case and punctuation."""

from __future__ import annotations


def plain(text: str) -> str:
    """Case-folded words, single spaces, no punctuation; accents stay."""
    kept = (char if char.isalnum() else " " for char in text.casefold())
    return " ".join("".join(kept).split())


def mentions(text: str, term: str) -> bool:
    """Whether a text contains a term as whole words."""
    wanted = plain(term)
    return bool(wanted) and f" {wanted} " in f" {plain(text)} "
