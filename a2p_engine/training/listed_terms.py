"""Terms that the data list for each utterance, as the published recipe asks about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from a2p_engine.training.shards import Utterance

Level = Literal["word", "phrase"]

_PHRASE_WORDS = (2, 4)


def terms_of(utterance: Utterance, level: Level, rng: np.random.Generator) -> list[str]:
    """What is asked of an utterance.

    Listed words become phrases of two to four words of the text that begin with them, shorter at
    its end. A lone word stays one, and so does what the text does not contain as a word.
    """
    if level == "word" or not utterance.seeds or len(utterance.terms) == 1:
        return list(utterance.terms)
    words = utterance.text.split(" ")
    phrases = []
    for term in utterance.terms:
        if term in words:
            place = words.index(term)
            length = int(rng.integers(_PHRASE_WORDS[0], _PHRASE_WORDS[1] + 1))
            term = " ".join(words[place : place + length])
        phrases.append(term)
    return phrases


def draw(
    utterances: Sequence[Utterance], *, level: Level, limit: int, seed: int
) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """The terms of all utterances of a batch, which are each other's negatives.

    Args:
        utterances: B utterances.
        level: whether listed words become phrases.
        limit: most terms; more are left out at random.
        seed: chooses.

    Returns:
        N terms in random order, and [B, N] whether each is one of the utterance's own.
    """
    rng = np.random.default_rng(seed)
    own = [set(terms_of(utterance, level, rng)) for utterance in utterances]
    everything = sorted(set().union(*own))
    terms = [everything[i] for i in rng.permutation(len(everything))[:limit].tolist()]
    said = [[term in listed for term in terms] for listed in own]
    return terms, np.array(said, np.bool_).reshape(len(own), len(terms))


def glossary(utterances: Sequence[Utterance], size: int) -> list[str]:
    """Listed terms of some utterances as they are, at most ``size``, always the same."""
    everything = sorted({term for utterance in utterances for term in utterance.terms})
    order = np.random.default_rng(0).permutation(len(everything))[:size].tolist()
    return sorted(everything[i] for i in order)
