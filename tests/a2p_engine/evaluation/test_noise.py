"""Test noise: the level that was asked for, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from a2p_engine.errors import InputError
from a2p_engine.evaluation import noise
from a2p_engine.types import SAMPLE_RATE_HZ, Samples


@pytest.fixture
def speech() -> Samples:
    """A second of pause, a second of tone at half scale, a second of pause."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)
    pause = np.zeros(SAMPLE_RATE_HZ)
    return np.concatenate([pause, tone, pause]).astype(np.float32)


@pytest.mark.parametrize("name", list(noise.SOUNDS))
def test_every_noise_is_repeatable_and_of_unit_power(name: str) -> None:
    """The same seed gives the same track, another seed another."""
    one, again, other = (noise.track(name, seed, seconds=2.0) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)
    assert np.mean(one**2) == pytest.approx(1.0, rel=1e-3)
    assert np.isfinite(one).all()


def test_pauses_do_not_count_as_speech(speech: Samples) -> None:
    """The level is that of the second that is spoken, not of all three."""
    assert noise.active_power(speech) == pytest.approx(0.125, rel=0.01)
    assert noise.active_power(np.zeros(0, np.float32)) == 0.0


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -5.0])
def test_the_mixture_has_the_ratio_that_was_asked_for(speech: Samples, snr_db: float) -> None:
    """What is heard in the pauses is so far below the active speech, whatever the final level."""
    mixed = noise.mix(speech, noise.track("white", 0, 5.0), snr_db)
    assert mixed.dtype == np.float32 and len(mixed) == len(speech)
    assert np.abs(mixed).max() <= 1.0
    pause = mixed[: SAMPLE_RATE_HZ // 2].astype(np.float64)
    both = mixed[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ].astype(np.float64)
    noise_power = np.mean(pause**2)
    measured = 10 * np.log10((np.mean(both**2) - noise_power) / noise_power)
    assert measured == pytest.approx(snr_db, abs=0.5)


def test_each_recording_gets_its_own_stretch(speech: Samples) -> None:
    """Chosen by its number alone."""
    track = noise.track("white", 0, 5.0)
    first, again, second = (noise.mix(speech, track, 10, number) for number in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, second)


def test_a_file_can_be_the_noise(tmp_path: Path) -> None:
    """Anything else is refused by name."""
    path = tmp_path / "rain.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8000), SAMPLE_RATE_HZ)
    assert len(noise.track(str(path), 0)) == 8000
    with pytest.raises(InputError, match="neither a file nor one of kitchen, babble"):
        noise.track("rain", 0)
