"""Rooms, lines and noise."""

from __future__ import annotations

import numpy as np

from a2p_engine.training import augment
from a2p_engine.types import SAMPLE_RATE_HZ, Samples


def _speech() -> Samples:
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s) * (1 + np.sin(2 * np.pi * 4 * time_s))
    return np.pad(tone, 8_000).astype(np.float32)


def test_degraded_speech_keeps_its_length_and_stays_in_range() -> None:
    """Whatever is drawn, the result is finite float32 of the same length within full scale."""
    speech = _speech()
    for seed in range(60):
        out = augment.degrade(speech, [speech], np.random.default_rng(seed))
        assert out.dtype == np.float32
        assert out.shape == speech.shape
        assert np.isfinite(out).all()
        assert 0 < np.abs(out).max() <= 1.0


def test_the_same_seed_degrades_alike() -> None:
    """Data made twice are equal."""
    speech = _speech()
    one, two = (augment.degrade(speech, [speech], np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_some_windows_end_in_mid_speech_and_some_in_silence() -> None:
    """Trimming leaves both kinds, because live windows are of both kinds."""
    speech = _speech()
    tails = []
    for seed in range(60):
        out = augment.trim(speech, np.random.default_rng(seed))
        last = int(np.flatnonzero(np.abs(out) > 0.01)[-1])
        tails.append((len(out) - 1 - last) / SAMPLE_RATE_HZ)
    cut = sum(tail < 0.05 for tail in tails)
    assert 10 < cut < 50
    assert max(tails) > 0.3


def test_silence_passes_through() -> None:
    """Nothing to trim, nothing to divide by."""
    silence = np.zeros(1_000, np.float32)
    assert len(augment.trim(silence, np.random.default_rng(0))) == 1_000
    assert np.isfinite(augment.degrade(silence, [], np.random.default_rng(1))).all()
    assert len(augment.degrade(silence[:0], [], np.random.default_rng(1))) == 0


def test_mu_law_is_coarse_where_loud_and_fine_where_quiet() -> None:
    """Eight bits, with steps that grow with the level."""
    ramp = np.linspace(-1, 1, 10_001)
    error = np.abs(augment.mu_law(ramp) - ramp)
    assert len(np.unique(augment.mu_law(ramp))) <= 256
    assert error.max() < 0.03
    assert error[np.abs(ramp) < 0.01].max() < 0.0005
