"""From the evidence of both stages to one probability per term, by logistic regression."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from a2p_engine.errors import ModelError
from a2p_engine.types import EAGERNESS, Eagerness

FloatArray = npt.NDArray[np.float32]

FEATURES = ("surprise", "mean_cost", "gain")


@dataclass(frozen=True, kw_only=True)
class Background:
    """Cost of the best match of a pronunciation that was not spoken, by its length.

    Among thousands of terms some fit by chance, short ones above all: a cost says little until it
    is known how rare it is for that length. Both curves are a + b * length + c * sqrt(length).

    Attributes:
        mean: a, b, c of the mean in nats.
        deviation: a, b, c of the standard deviation.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def surprise(self, cost: FloatArray, length: npt.NDArray[np.int32]) -> FloatArray:
        """-log of the chance that a term that was not spoken fits so well or better: [M] nats."""
        curves = length_curves(length)
        deviation = np.maximum(curves @ np.array(self.deviation), 0.3)
        score = (np.minimum(cost, 1e3) - curves @ np.array(self.mean)) / deviation
        return np.asarray(-torch.special.log_ndtr(torch.from_numpy(score)), np.float32)


def length_curves(length: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """1, length and its root, the terms of ``Background``'s curves: [M] to [M, 3]."""
    size = length.astype(np.float64)
    return np.stack([np.ones_like(size), size, np.sqrt(size)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """logit(p) = weights . features + bias.

    Attributes:
        background: what makes a cost surprising.
        weights: one per name in ``FEATURES``.
        bias: the intercept.
        thresholds: least probability at which a term is offered, by the eagerness asked for.
        source: the data it was fitted on.
    """

    background: Background
    weights: tuple[float, ...]
    bias: float
    thresholds: dict[Eagerness, float]
    source: str = ""

    def logits(
        self, cost: FloatArray, length: npt.NDArray[np.int32], gain: FloatArray
    ) -> FloatArray:
        """Evidence of M pronunciations to the logit that they were spoken.

        Args:
            cost: [M] nats of the best match.
            length: [M] phonemes.
            gain: [M] what the audio adds to the A2P head's logit.
        """
        evidence = features(self.background, cost, length, gain)
        weights = np.array(self.weights, np.float32)
        return (evidence @ weights + np.float32(self.bias)).astype(np.float32)

    def threshold(self, wanted: float | Eagerness) -> float:
        """Least probability of an offered term, given as such or by name."""
        return self.thresholds[wanted] if isinstance(wanted, str) else wanted

    def save(self, path: Path) -> None:
        """Write as JSON, with the feature names so that a later set of features is noticed."""
        path.write_text(json.dumps({"features": FEATURES, **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing, damaged or of other features.
        """
        try:
            record = json.loads(path.read_text())
            if tuple(record.pop("features")) != FEATURES:
                raise ModelError(f"{path}: fitted for other features than {', '.join(FEATURES)}")
            if set(record["thresholds"]) != set(EAGERNESS):
                raise ModelError(f"{path}: thresholds must be given for {', '.join(EAGERNESS)}")
            record["weights"] = tuple(map(float, record["weights"]))
            background = {name: tuple(c) for name, c in record.pop("background").items()}
            return cls(background=Background(**background), **record)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"cannot read calibration {path}: {error}") from error


def features(
    background: Background, cost: FloatArray, length: npt.NDArray[np.int32], gain: FloatArray
) -> FloatArray:
    """[M, F], one column for each name in ``FEATURES``; arguments as for ``Calibration.logits``."""
    mean_cost = (np.minimum(cost, 100.0) / length).astype(np.float32)  # inf before the first frame
    columns: list[FloatArray] = [background.surprise(cost, length), mean_cost, gain]
    return np.stack(columns, axis=1).astype(np.float32)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Numerically safe 1 / (1 + exp(-x))."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)
