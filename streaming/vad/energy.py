"""Loudness alone: no model and no memory, for tests and for clean line signals."""

from __future__ import annotations

import numpy as np

from a2p_engine.types import Samples

SILENCE_DBFS = -50.0
SPEECH_DBFS = -30.0


class EnergyDetector:
    """Maps a frame's level from [-50, -30] dBFS linearly to [0, 1]."""

    frame_samples = 320

    def __call__(self, frames: Samples) -> list[float]:
        """See ``VoiceActivityDetector``."""
        power = np.mean(np.square(frames, dtype=np.float64), axis=1)
        level_dbfs = 10 * np.log10(power + 1e-12)
        share = (level_dbfs - SILENCE_DBFS) / (SPEECH_DBFS - SILENCE_DBFS)
        return [float(value) for value in np.clip(share, 0.0, 1.0)]

    def trivial(self, audio: Samples) -> bool:
        """See ``VoiceActivityDetector``."""
        return True

    def reset(self) -> None:
        """See ``VoiceActivityDetector``; there is nothing to forget."""
