"""Whisper in batches: windows of several sessions together come out as each alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2p_engine import models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.whisper import BATCH_STEP_SAMPLES, WhisperEncoder
from a2p_engine.speech_llm.base import DecodeRequest
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import Samples

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000
MEET_S = 1.0


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    """Whisper base, up to four windows together."""
    return WhisperEncoder(models.find("whisper-base"), device="cpu", batch=4)


@pytest.fixture(scope="module")
def windows() -> list[Samples]:
    """Four windows of three lengths that are rounded up to two."""
    audio = read_audio(RECORDING)
    starts_and_lengths = ((0, 2.7), (4, 2.9), (8, 3.0), (12, 1.5))
    return [audio[round(at * HZ) : round((at + length) * HZ)] for at, length in starts_and_lengths]


def test_encoded_together_as_alone(encoder: WhisperEncoder, windows: list[Samples]) -> None:
    """One call for what has one length, the very same frames, without padding."""
    alone = [encoder.encode(window) for window in windows]
    mels: list[int] = []
    run = encoder._encode._run

    def slow(batch: Any) -> Any:
        if not mels:
            time.sleep(MEET_S)  # so long the others have to come together
        mels.append(len(batch))
        return run(batch)

    encoder._encode._run = slow
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(encoder.encode, windows))
    finally:
        encoder._encode._run = run
    assert sum(mels) == 4 and len(mels) < 4
    for one, other, window in zip(alone, together, windows, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(np.asarray(one.native), np.asarray(other.native))
        assert len(one.frames) == -(-len(window) // encoder.hop_samples)
        silent = 2 * HZ + -len(window) % BATCH_STEP_SAMPLES
        assert np.asarray(one.native).shape[1] == (len(window) + silent) // encoder.hop_samples


def test_written_together_as_alone(encoder: WhisperEncoder, windows: list[Samples]) -> None:
    """Words, times and probabilities, also where texts begin differently."""
    llm = WhisperSpeechLLM("whisper-base", encoder)
    requests = [
        DecodeRequest(
            samples=window[: round(2.7 * HZ)],
            encoded=encoder.encode(window[: round(2.7 * HZ)]),
            terms=(),
            committed=committed,
            language="en",
            task="transcribe",
        )
        for window, committed in zip(windows[:3], ("", "Well", ""), strict=True)
    ]
    alone = [llm.decode(request) for request in requests]
    batches: list[int] = []
    run = llm._write._run

    def counted(batch: Any) -> Any:
        batches.append(len(batch))
        return run(batch)

    llm._write._run = counted
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(llm.decode, requests))
    assert together == alone
    assert sum(batches) == 3


def test_on_a_cpu_workers_are_not_held_up_by_batches() -> None:
    """There they are faster side by side, and windows are not made longer."""
    encoder = WhisperEncoder(models.find("whisper-base"), device="cpu")
    assert encoder.batch == 1
    native = encoder.encode(np.zeros(round(1.3 * HZ), np.float32)).native
    assert np.asarray(native).shape[1] == round(3.3 * HZ) // encoder.hop_samples
