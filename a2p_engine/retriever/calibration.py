"""From the evidence of both stages to one probability per term, by logistic regression."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2p_engine.errors import ModelError

FloatArray = npt.NDArray[np.float32]

FEATURES = ("mean_cost", "cost", "log_length", "short", "gain")


def features(cost: FloatArray, length: npt.NDArray[np.int32], gain: FloatArray) -> FloatArray:
    """Evidence of N terms as a matrix.

    Args:
        cost: [N] nats of the best match of the term's best pronunciation.
        length: [N] phonemes of that pronunciation.
        gain: [N] what the audio adds to the A2P head's logit.

    Returns:
        [N, F], one column for each name in ``FEATURES``.
    """
    size = length.astype(np.float32)
    bounded = np.minimum(cost, np.float32(100.0))  # inf before the first frame
    columns = [bounded / size, bounded, np.log(size), np.exp(-size / 3), gain]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """logit(p) = weights . features + bias.

    Attributes:
        weights: one per name in ``FEATURES``.
        bias: the intercept.
        threshold: least probability at which a term is offered by default.
        source: the data and command it was fitted with.
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float
    source: str = ""

    def logits(self, evidence: FloatArray) -> FloatArray:
        """[N, F] features to [N] logits."""
        weights = np.array(self.weights, np.float32)
        return (evidence @ weights + np.float32(self.bias)).astype(np.float32)

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
            record["weights"] = tuple(map(float, record["weights"]))
            return cls(**record)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"cannot read calibration {path}: {error}") from error


def sigmoid(logits: FloatArray) -> FloatArray:
    """Numerically safe 1 / (1 + exp(-x))."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)
