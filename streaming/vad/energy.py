"""Loudness alone: no model and no memory, for tests and for clean line signals."""

from __future__ import annotations

import math

import numpy as np

from a2p_engine.types import Samples

SILENCE_DBFS = -50.0
SPEECH_DBFS = -30.0


class EnergyDetector:
    """Maps the frame's level from [-50, -30] dBFS linearly to [0, 1]."""

    frame_samples = 320

    def __call__(self, frame: Samples) -> float:
        """See ``VoiceActivityDetector``."""
        power = float(np.mean(np.square(frame, dtype=np.float64)))
        level_dbfs = 10 * math.log10(power + 1e-12)
        share = (level_dbfs - SILENCE_DBFS) / (SPEECH_DBFS - SILENCE_DBFS)
        return min(1.0, max(0.0, share))

    def reset(self) -> None:
        """See ``VoiceActivityDetector``; there is nothing to forget."""
