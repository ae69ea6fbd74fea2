"""The whole line on real weights: the demo, and what must give no text."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soxr
from rich.console import Console

from a2p_engine import glossary
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.types import Samples
from streaming.demo import run_demo
from streaming.offline import transcribe

DATA = Path(__file__).parents[2] / "examples" / "data"
HZ = 16_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


@pytest.mark.slow
def test_the_demo_corrects_terms_and_inserts_none() -> None:
    """Two runs at real-time pace through server and client; the demo judges itself strictly."""
    shown = io.StringIO()
    assert run_demo(Console(file=shown, width=100)) == 0, shown.getvalue()
    assert "The glossary corrected" in shown.getvalue()
    assert "terms right" in shown.getvalue()


def _music(duration_s: int) -> Samples:
    """Chords of plucked, vibrating tones over a beat of noise bursts."""
    rng = np.random.default_rng(3)
    audio = np.zeros(duration_s * HZ)
    for begin_s in np.arange(0, duration_s - 2, 0.5):
        time_s = np.arange(2 * HZ) / HZ
        for tone in rng.choice([196.0, 220.0, 261.6, 329.6, 392.0, 523.3], 3, replace=False):
            vibrato = 0.003 * np.sin(2 * np.pi * 5 * time_s)
            note = np.sin(2 * np.pi * tone * (time_s + vibrato / 10)) * np.exp(-2 * time_s)
            audio[int(begin_s * HZ) :][: len(note)] += 0.08 * note
        burst = rng.normal(0, 0.05, HZ // 10) * np.linspace(1, 0, HZ // 10)
        audio[int(begin_s * HZ) :][: len(burst)] += burst
    return np.asarray(audio, np.float32)


def _pink(duration_s: int) -> Samples:
    white = np.random.default_rng(5).normal(0, 0.02, duration_s * 4_000)
    return np.asarray(soxr.resample(white, 4_000, HZ), np.float32)


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(60 * HZ, np.float32),
        np.random.default_rng(1).normal(0, 0.1, 60 * HZ).astype(np.float32),
        _pink(60),
        _music(60),
    ],
    ids=["silence", "white noise", "low noise", "music"],
)
def test_a_minute_without_speech_gives_no_text(engine: Engine, audio: Samples) -> None:
    """With the default detector and a glossary, nothing is written."""
    terms = glossary.load(DATA / "medical_terms.txt").terms
    assert [final.text for final in transcribe(engine, audio, glossary=terms)] == []
