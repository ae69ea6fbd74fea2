"""Synthetic voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from a2p_engine.errors import TrainingError
from a2p_engine.training.voices import HibariVoice, accented, kokoro_voices
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

HELLO = "həlˈO ðˈɛɹ."


def _centroid_hz(samples: Samples) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ) * power).sum() / power.sum())


def test_one_seed_is_one_speaker() -> None:
    """Equal seeds give equal samples, other seeds other speakers and lengths."""
    voice = HibariVoice()
    first, again, other = (voice.speak(HELLO, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other)
    assert first.dtype == np.float32
    assert 0.3 < len(first) / SAMPLE_RATE_HZ < 3


def test_varied_speakers_differ_much_more_than_the_voice_itself() -> None:
    """Formants, pitch and pace move; the unvaried voice says the same thing the same way."""
    varied, plain = HibariVoice(), HibariVoice(vary=False)
    many = [varied.speak(HELLO, np.random.default_rng(s)) for s in range(8)]
    same = [plain.speak(HELLO, np.random.default_rng(s)) for s in range(3)]
    assert len({len(audio) for audio in same}) == 1
    assert len({len(audio) for audio in many}) > 4
    assert np.std([_centroid_hz(a) for a in many]) > 3 * np.std([_centroid_hz(a) for a in same])


def test_an_accent_swaps_some_sounds_and_keeps_the_rest() -> None:
    """The result is near the original, and sooner or later different."""
    heard = {accented("ðə wˈɪndO ɪz vˈɛɹi θˈɪk", np.random.default_rng(s)) for s in range(30)}
    assert len(heard) > 8
    assert all(len(a) >= 18 for a in heard)


def test_missing_kokoro_files_are_named(tmp_path: Path) -> None:
    """The error says what the directory lacks."""
    with pytest.raises(TrainingError, match="af_bella"):
        kokoro_voices(tmp_path, ["af_bella"])
