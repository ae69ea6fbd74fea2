"""Qwen3-ASR's encoder, compared with the library's own processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration

from a2p_engine.audio import read_audio
from a2p_engine.encoders.qwen3_asr import Qwen3ASREncoder
from a2p_engine.errors import AudioError
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
FRAME = 1_280


@pytest.fixture(scope="module")
def model() -> Qwen3ASRForConditionalGeneration:
    """Tiny."""
    return tiny.qwen3_asr(tiny.qwen3_tokenizer())


@pytest.fixture
def encoder(model: Qwen3ASRForConditionalGeneration) -> Qwen3ASREncoder:
    """Of the model."""
    return Qwen3ASREncoder(model.model, name="x")


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


@pytest.mark.parametrize("samples", [160, 5_120, 16_000, 16_160, 35_200, 64_000])
@torch.no_grad()
def test_the_language_model_reads_what_the_library_makes(
    model: Qwen3ASRForConditionalGeneration,
    encoder: Qwen3ASREncoder,
    speech: Samples,
    samples: int,
) -> None:
    """Half seconds are completed with silence, and each second gives 13 rows."""
    found = Qwen3ASRFeatureExtractor(feature_size=16)(
        speech[:samples], sampling_rate=16_000, padding="longest", return_attention_mask=True
    )
    wanted = model.get_audio_features(
        found["input_features"], found["attention_mask"], return_dict=True
    ).pooler_output
    rows = encoder.encode(speech[:samples]).native.rows
    torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=1e-4)
    assert len(rows) == 13 * (samples // 16_000) + -(-(samples % 16_000) // FRAME) or samples < 8000


@pytest.mark.parametrize("samples", [0, 1, 1_279, 1_280, 1_281, 16_000, 16_001, 20_500, 64_000])
def test_frames_come_every_80_ms(encoder: Qwen3ASREncoder, speech: Samples, samples: int) -> None:
    """One for every started one, each the row that lies there."""
    encoded = encoder.encode(speech[:samples])
    assert encoded.frames.shape == (-(-samples // FRAME), encoder.width)
    rows = encoded.native.rows.numpy()
    begins = [16_000 * (row // 13) + FRAME * (row % 13) for row in range(len(rows))]
    for number, frame in enumerate(encoded.frames):
        at = max(row for row, begin in enumerate(begins) if begin <= number * FRAME)
        np.testing.assert_array_equal(frame, rows[at])


def test_windows_of_several_sessions_are_encoded_together(
    encoder: Qwen3ASREncoder, speech: Samples
) -> None:
    """In a batch, shorter windows do not hear what pads them; empty ones give nothing."""
    windows = [speech[:20_000], speech[5_000:50_000], speech[:0], speech[100:740]]
    alone = [encoder.encode(window).native.rows for window in windows]
    for one, other in zip(alone, encoder.encode_batch(windows), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    assert encoder.trace.encodes == 2 * len(windows)


def test_too_much_audio_is_an_error(encoder: Qwen3ASREncoder) -> None:
    """The text says how much it takes."""
    with pytest.raises(AudioError, match=r"31\.0 s is too long for x, which takes 30 s at most"):
        encoder.encode(np.zeros(16_000 * 31, np.float32))
