"""Long recordings are cut where it is quiet."""

from __future__ import annotations

import numpy as np

from a2p_engine.evaluation.windows import WINDOW_SAMPLES, windows
from a2p_engine.types import SAMPLE_RATE_HZ


def test_a_short_recording_stays_whole() -> None:
    """Up to the longest window there is one piece."""
    samples = np.ones(WINDOW_SAMPLES, np.float32)
    (piece,) = windows(samples)
    assert piece is samples


def test_a_long_recording_is_cut_in_its_pause() -> None:
    """Every piece fits, none is lost, and the cut is within the only quiet half second."""
    samples = np.random.default_rng(0).normal(0, 0.1, 40 * SAMPLE_RATE_HZ).astype(np.float32)
    samples[24 * SAMPLE_RATE_HZ : int(24.5 * SAMPLE_RATE_HZ)] = 0
    first, second = windows(samples)
    assert np.array_equal(np.concatenate([first, second]), samples)
    assert 24 * SAMPLE_RATE_HZ < len(first) < 24.5 * SAMPLE_RATE_HZ
