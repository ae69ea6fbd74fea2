"""How the speech LLM would write a term, token by token, and how rare that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Tokenize = Callable[[Sequence[str]], list[list[int]]]

REMEMBERED = 50_000  # in memory only


class TokenSpelling(NamedTuple):
    """A term in running text.

    Attributes:
        tokens: of each way to write it, as it is and with a capital.
        rarity: of the most common of them.
    """

    tokens: list[list[int]]
    rarity: float


class TokenSpellings:
    """Looks terms up, and remembers them."""

    def __init__(self, tokenize: Tokenize) -> None:
        """Nothing is known yet; ``tokenize`` turns texts into token ids."""
        self._tokenize = tokenize
        self._known: dict[str, TokenSpelling] = {}

    def of(self, texts: Sequence[str]) -> dict[str, TokenSpelling]:
        """Of each text."""
        known = {text: found for text in texts if (found := self._known.get(text))}
        missing = [text for text in texts if text not in known]
        forms = [form for text in missing for form in (text, text[:1].upper() + text[1:])]
        ids = self._tokenize([f" {form}" for form in forms])
        fresh = {text: _spelling(text, ids[2 * at : 2 * at + 2]) for at, text in enumerate(missing)}
        if len(self._known) > REMEMBERED:
            self._known.clear()
        self._known.update(fresh)
        return known | fresh


def _spelling(text: str, tokens: list[list[int]]) -> TokenSpelling:
    words = len(text.split())
    return TokenSpelling(tokens, min(rarity(each, words) for each in tokens))


def rarity(tokens: Sequence[int], words: int = 1) -> float:
    """How rare a text is by its sub-words; 0 without any.

    They are numbered by frequency (Sennrich et al. 2016), and rare words need several.

    Args:
        tokens: their numbers.
        words: that they make up.
    """
    return float(np.log(max(tokens) + 1)) + len(tokens) - words if tokens else 0.0
