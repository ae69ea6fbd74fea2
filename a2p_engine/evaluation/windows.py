"""Long recordings in pieces that the models take."""

from __future__ import annotations

import numpy as np

from a2p_engine.types import SAMPLE_RATE_HZ, Samples

WINDOW_SAMPLES = 28 * SAMPLE_RATE_HZ
_SEARCHED = 2 / 7  # the end of a window, in which it is cut
_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50


def windows(samples: Samples, longest: int = WINDOW_SAMPLES) -> list[Samples]:
    """The recording whole, or cut where it is quietest for 200 ms so that no piece is too long.

    Args:
        samples: float32 [n].
        longest: samples of a piece at most, 28 s unless told.
    """
    pieces: list[Samples] = []
    while len(samples) > longest:
        begin = longest - round(longest * _SEARCHED)
        cut = begin + _quietest(samples[begin:longest])
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def _quietest(samples: Samples) -> int:
    """The middle of the ten frames with the least energy."""
    frames = samples[: len(samples) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    energy = (frames.astype(np.float64) ** 2).sum(axis=1)
    smooth = np.convolve(energy, np.ones(10), "valid")
    return (int(smooth.argmin()) + 5) * _FRAME_SAMPLES
