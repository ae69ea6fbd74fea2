"""Which terms the A2P head is asked about: words first, phrases later, and words nobody said."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from a2p_engine.errors import ModelError
from a2p_engine.training.config import CurriculumConfig
from a2p_engine.training.texts import spoken_words, words_of

# Words more frequent than this share of all running words are never terms.
_COMMON_SHARE = 3e-4
_SHORTEST = 3
SPOKEN_WORDS = "spoken_words.txt.gz"


def joined_words(text: str) -> str:
    """Words between single spaces, with a space at both ends: terms are found by ``in``."""
    return f" {' '.join(words_of(text))} "


class TermSampler:
    """Draws terms for batches and a glossary for development."""

    def __init__(self, texts: Sequence[str], rare_words: Sequence[str]) -> None:
        """Count words.

        Args:
            texts: everything that is said in training.
            rare_words: further words for negatives.
        """
        self._counts = Counter(word for text in texts for word in words_of(text))
        self._limit = max(2.0, _COMMON_SHARE * self._counts.total())
        spoken = [word for word in self._counts if self._usable(word)]
        self._others = sorted({*spoken, *rare_words})

    def _usable(self, word: str) -> bool:
        return len(word) >= _SHORTEST and self._counts[word] <= self._limit

    def draw(
        self, texts: Sequence[str], curriculum: CurriculumConfig, *, progress: float, seed: int
    ) -> list[str]:
        """Terms of all utterances of a batch, which are each other's negatives, and rare words.

        Args:
            texts: joined words of each utterance.
            curriculum: how many of what.
            progress: share of the training that is over; phrases come late.
            seed: chooses.
        """
        rng = np.random.default_rng(seed)
        share = curriculum.phrase_share if progress >= curriculum.phrase_from else 0.0
        terms: dict[str, None] = {}
        for text in texts:
            words = text.split()
            places = [i for i, word in enumerate(words) if self._usable(word)]
            if not places:
                continue
            rarity = np.array([self._counts[words[i]] + 1.0 for i in places]) ** -0.5
            count = min(curriculum.terms_per_utterance, len(places))
            for place in rng.choice(places, count, replace=False, p=rarity / rarity.sum()):
                length = int(rng.integers(2, 4)) if rng.random() < share else 1
                terms[" ".join(words[place : place + length])] = None
        for number in rng.integers(0, len(self._others), curriculum.rare_negatives):
            terms[self._others[number]] = None
        return list(dict.fromkeys(_in_some_case(term, rng) for term in terms))

    def glossary(self, texts: Sequence[str], size: int) -> list[str]:
        """The rarer words of some texts, and ``size`` others, always the same."""
        words = {word for text in texts for word in text.split() if self._usable(word)}
        picked = np.random.default_rng(0).choice(len(self._others), min(size, len(self._others)))
        return sorted(words | {self._others[i] for i in picked})


def _in_some_case(term: str, rng: np.random.Generator) -> str:
    """Glossaries write terms in any case, and the speech LLM has other tokens for each."""
    choice = rng.random()
    if choice < 0.75:
        return term
    return term.title() if choice < 0.97 else term.upper()


def write_spoken_words(path: Path, texts: Iterable[str]) -> None:
    """Keep every word that was spoken in training, so that evaluation can tell the others.

    Abbreviations are kept as they are written and as they are spoken.
    """
    words = sorted({w for text in texts for w in (*words_of(text), *spoken_words(text))})
    path.write_bytes(gzip.compress("\n".join(words).encode(), mtime=0))


def read_spoken_words(path: Path) -> frozenset[str]:
    """Read what ``write_spoken_words`` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        return frozenset(gzip.decompress(path.read_bytes()).decode().split("\n"))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the words spoken in training: {path}: {error}") from error
