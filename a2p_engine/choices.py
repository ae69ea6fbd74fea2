"""What a speech LLM might have written instead, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

KEPT = 200  # tokens remembered at each place; one beyond them counts as probable as the last
LEAST_LOG_ODDS = -12.0  # odds below say no more


@dataclass(frozen=True, slots=True)
class Choice:
    """A token of a text, and the others that were as good as possible there.

    Attributes:
        token: what was written.
        log_odds: of other tokens, their log-probability less that of what was written.
        least: at most so much has a token that ``log_odds`` does not list.
    """

    token: int
    log_odds: Mapping[int, float]
    least: float

    def of(self, token: int) -> float:
        """Log-odds of a token against what was written, within ``LEAST_LOG_ODDS`` and 0."""
        log_odds = 0.0 if token == self.token else self.log_odds.get(token, self.least)
        return min(max(log_odds, LEAST_LOG_ODDS), 0.0)


def choices_of(tokens: Sequence[int], logits: Sequence[FloatArray]) -> tuple[Choice, ...]:
    """The choices behind a text.

    Args:
        tokens: [L] of the text.
        logits: L rows [V], what the model gave to each token of its vocabulary there.
    """
    return tuple(_choice(token, row) for token, row in zip(tokens, logits, strict=True))


def _choice(token: int, row: FloatArray) -> Choice:
    kept = min(KEPT, len(row))
    best = np.argpartition(row, -kept)[-kept:]
    log_odds = row[best] - row[token]
    return Choice(
        token, dict(zip(best.tolist(), log_odds.tolist(), strict=True)), float(log_odds.min())
    )


def fork(choices: Sequence[Choice], spelling: Sequence[int]) -> float:
    """Log-odds of another text against what was written, where the two part.

    Both are the same up to there, so that this one choice made the difference; 0 for a text that
    was written.

    Args:
        choices: of what was written, from a place on.
        spelling: tokens of the other text.
    """
    for choice, token in zip(choices, spelling, strict=False):
        if token != choice.token:
            return choice.of(token)
    return 0.0 if len(spelling) <= len(choices) else LEAST_LOG_ODDS
