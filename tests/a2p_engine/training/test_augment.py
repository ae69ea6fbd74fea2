"""Rooms, lines and noise."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

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


class _FixedDraws:
    """A generator whose draws are given: which codec, and at what level."""

    def __init__(self, codec: int, level: float) -> None:
        self._codec, self._level = codec, level

    def integers(self, _: int) -> int:
        return self._codec

    def uniform(self, low: float, high: float) -> float:
        assert low <= self._level <= high
        return self._level


@pytest.mark.parametrize("codec", [0, 1], ids=["opus", "mp3"])
@pytest.mark.parametrize(("level", "least"), [(0.5, 0.99), (0.75, 0.95), (1.0, 0.5)])
def test_codecs_keep_length_and_place_and_lose_a_little(
    codec: int, level: float, least: float
) -> None:
    """Decoded speech lies sample by sample on its original, less so the fewer bits it got."""
    speech = _speech()
    draws = cast(np.random.Generator, _FixedDraws(codec, level))
    decoded = augment.compressed(speech, draws)
    assert decoded.shape == speech.shape
    likeness = float(np.corrcoef(speech, decoded)[0, 1])
    assert least < likeness < 1
    assert not np.allclose(decoded, speech * 0.9 / np.abs(speech).max(), atol=1e-4)


@pytest.mark.parametrize("length", [1, 400, 4_800])
def test_codecs_take_the_shortest_windows(length: int) -> None:
    """Trimming may leave very little."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert len(augment.compressed(_speech()[:length] + 0.01, rng)) == length


def test_music_has_unit_power_and_a_pitch() -> None:
    """Chords stand far above the spectrum's middle, in any key and of any length."""
    for seed in range(12):
        music = augment.music(SAMPLE_RATE_HZ, np.random.default_rng(seed))
        assert len(music) == SAMPLE_RATE_HZ
        assert np.sqrt((music**2).mean()) == pytest.approx(1, abs=1e-3)
        power = np.abs(np.fft.rfft(music)) ** 2
        assert power.max() > 100 * np.median(power)


def test_one_room_in_five_is_far_field() -> None:
    """Some rooms have more reverberation than direct sound and a long decay; most have neither."""
    rooms = [augment._room(np.random.default_rng(seed)) for seed in range(300)]
    assert all(room[0] == 1 for room in rooms)
    tail_db = np.array([10 * np.log10((room[1:] ** 2).sum()) for room in rooms])
    long = np.array([len(room) > 0.7 * SAMPLE_RATE_HZ for room in rooms])
    assert tail_db.min() > -18.5
    assert tail_db.max() < 6.5
    assert 0.04 < long.mean() < 0.2
    assert tail_db[long].min() > -3.5
