"""Audio whose speech is known: a loud tone is speech to the energy detector, silence is not."""

from __future__ import annotations

import numpy as np

from a2p_engine.types import Samples


def tone(duration_s: float) -> Samples:
    """A tone that the energy detector takes for speech."""
    time_s = np.arange(round(duration_s * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32)


def silence(duration_s: float) -> Samples:
    """Digital silence."""
    return np.zeros(round(duration_s * 16_000), np.float32)


def pcm(*parts: Samples) -> bytes:
    """The parts in a row as s16le bytes."""
    return (np.concatenate(parts) * 32767).astype("<i2").tobytes()
