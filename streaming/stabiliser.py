"""Decides which part of a growing caption will not change any more.

Local agreement (Liu et al. 2020, arXiv 2005.11185, section 3): a word is committed when two
hypotheses in a row agree on it and on all before it, and when enough audio was heard behind it that
its sound is complete. The last word of a hypothesis is never committed: its punctuation depends on
what follows, and a model that is forced past the end of its own text tends to repeat itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from a2p_engine.types import Word

logger = logging.getLogger(__name__)


class Stabiliser:
    """Splits the hypotheses of one segment into a committed prefix and a volatile tail.

    Attributes:
        committed: text that will not change; grows only at its end.
        volatile: text behind it in the latest hypothesis, with the space between, if any.
    """

    def __init__(self, hold_back_samples: int) -> None:
        self.committed = ""
        self.volatile = ""
        self._hold_back = hold_back_samples
        self._previous: list[str] = []
        self._committed_end = 0  # sample behind the last committed word
        self._warned = False

    @property
    def text(self) -> str:
        """The whole caption so far."""
        return self.committed + self.volatile

    def update(self, text: str, words: Sequence[Word], heard_sample: int) -> None:
        """Take the next hypothesis, made from audio up to ``heard_sample``."""
        if text.startswith(self.committed):
            self._commit(text, words, heard_sample)
            self.volatile = text[len(self.committed) :]
        else:
            self._warn_once(text)
            later = [word.text for word in words if word.start_sample >= self._committed_end]
            self.volatile = "".join(later)
        self._previous = _spelled(words)

    def finish(self) -> str:
        """Commit everything; returns the caption."""
        self.committed, self.volatile = self.text, ""
        return self.committed

    def _commit(self, text: str, words: Sequence[Word], heard_sample: int) -> None:
        agreed = ""
        for spelled, word, before in zip(_spelled(words), words[:-1], self._previous, strict=False):
            if spelled != before or word.end_sample > heard_sample - self._hold_back:
                break
            agreed += spelled
            if len(agreed) > len(self.committed) and text.startswith(agreed):
                self.committed, self._committed_end = agreed, word.end_sample

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            # Not the words: what is said in a room is no matter for a log.
            lengths = len(text), len(self.committed)
            logger.warning("a hypothesis of %d characters contradicts %d committed ones", *lengths)
            self._warned = True


def _spelled(words: Sequence[Word]) -> list[str]:
    """The words as they stand in the stripped text: the first has no leading space."""
    return [word.text if index else word.text.lstrip() for index, word in enumerate(words)]
