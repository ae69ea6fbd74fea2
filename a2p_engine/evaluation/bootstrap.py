"""Confidence intervals by resampling utterances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval; all None where nothing was measured."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def json(self) -> dict[str, float | None]:
        """Rounded to what is worth reading."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if part is None else round(part, 5) for name, part in parts.items()}


class Bootstrap:
    """Draws of U utterances with replacement, the same for every figure, so differences are paired.

    Percentile intervals (Efron & Tibshirani 1993, chapter 13). Utterances, not terms, are drawn:
    the terms of one utterance share its voice and its noise.
    """

    def __init__(self, utterances: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        """Draw.

        Args:
            utterances: U.
            seed: of the draws.
            resamples: R, how often.
        """
        rng = np.random.default_rng(seed)
        drawn = np.zeros((resamples, utterances))  # [R, U]
        if utterances:
            drawn += rng.multinomial(utterances, np.full(utterances, 1 / utterances), resamples)
        # The first row is what was measured.
        self._weights = np.concatenate([np.ones((1, utterances)), drawn])

    def sums(self, values: npt.ArrayLike) -> FloatArray:
        """[U] or [U, K] per utterance to [1 + R] or [1 + R, K] sums."""
        return np.asarray(self._weights @ np.asarray(values, np.float64))

    def ratio(self, part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
        """[1 + R] ratio of the sums of two figures per utterance, NaN where the divisor is zero."""
        return divided(self.sums(part), self.sums(whole))


def divided(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Quotient, NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole != 0)


def estimate(draws: FloatArray) -> Estimate:
    """From [1 + R] values, the first of which was measured, to a figure and its interval."""
    if np.isnan(draws[0]):
        return Estimate(None)
    usable = draws[1:][~np.isnan(draws[1:])]
    tail = 50 * (1 - CONFIDENCE)
    if not len(usable):
        return Estimate(float(draws[0]))
    low, high = np.percentile(usable, [tail, 100 - tail])
    return Estimate(float(draws[0]), float(low), float(high))
