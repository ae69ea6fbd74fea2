"""Qwen2-Audio's encoder on the audio there is, compared with the library's on padded windows."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor
from transformers.masking_utils import create_bidirectional_mask

from a2p_engine.audio import read_audio
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.errors import AudioError
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
FRAME = 640


@pytest.fixture(scope="module")
def model() -> Qwen2AudioForConditionalGeneration:
    """Tiny, four seconds."""
    return tiny.qwen2_audio(tiny.tokenizer())


@pytest.fixture
def encoder(model: Qwen2AudioForConditionalGeneration) -> Qwen2AudioEncoder:
    """Of the model."""
    return Qwen2AudioEncoder(model.model.audio_tower, model.model.multi_modal_projector, name="x")


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


@torch.no_grad()
def _padded(
    model: Qwen2AudioForConditionalGeneration, samples: Samples, *, whole: bool = False
) -> np.ndarray:
    """Frames as the library makes them: padded to the whole window, padding masked."""
    tower, config = model.model.audio_tower, model.config.audio_config
    features = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=4)(
        samples, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    states, frames = tower._get_feat_extract_output_lengths(features["attention_mask"].sum(-1))
    real = (torch.arange(config.max_source_positions)[None] < states).long()
    mask = create_bidirectional_mask(
        config=config,
        inputs_embeds=torch.zeros(1, config.max_source_positions, 1),
        attention_mask=real,
    )
    heard = tower(features["input_features"], attention_mask=mask).last_hidden_state
    rows = model.model.multi_modal_projector(heard)[0].numpy()
    return rows if whole else rows[: int(frames)]


@pytest.mark.parametrize("frames", [1, 2, 37, 99, 100])
def test_frames_are_those_of_a_padded_window(
    model: Qwen2AudioForConditionalGeneration,
    encoder: Qwen2AudioEncoder,
    speech: Samples,
    frames: int,
) -> None:
    """Padding is left out and changes nothing, up to the longest window."""
    window = speech[: frames * FRAME]
    encoded = encoder.encode(window)
    assert encoded.frames.shape == (frames, encoder.width) == (frames, 32)
    np.testing.assert_allclose(encoded.frames, _padded(model, window), atol=2e-4, rtol=1e-3)
    np.testing.assert_array_equal(encoded.native.rows.numpy(), encoded.frames)


@pytest.mark.parametrize("samples", [640, 12_345, 12_480, 50_000, 64_000])
def test_published_heads_get_the_whole_window(
    model: Qwen2AudioForConditionalGeneration,
    encoder: Qwen2AudioEncoder,
    speech: Samples,
    samples: int,
) -> None:
    """With the silence behind the audio, in the frames as the library makes them."""
    frames = encoder.padded_frames(speech[:samples])
    expected = _padded(model, speech[:samples], whole=True)
    assert frames.shape == expected.shape == (100, 32)
    np.testing.assert_allclose(frames, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 12_345])
def test_the_last_frame_is_completed_with_silence(
    encoder: Qwen2AudioEncoder, speech: Samples, samples: int
) -> None:
    """One frame for every started 40 ms, the same as with silence behind."""
    frames = -(-samples // FRAME)
    found = encoder.encode(speech[:samples]).frames
    assert found.shape == (frames, 32)
    whole = np.pad(speech[:samples], (0, frames * FRAME - samples))
    np.testing.assert_array_equal(found, encoder.encode(whole).frames)


def test_windows_of_several_sessions_are_encoded_together(
    encoder: Qwen2AudioEncoder, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch, shorter windows do not hear what pads them."""
    windows = [speech[:20_000], speech[5_000:30_000], speech[:0], speech[100:740]]
    alone = [encoder.encode(window).frames for window in windows]
    together = [row.numpy() for row in encoder.encode_batch(windows)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3)
    assert encoder.trace.encodes == 2 * len(windows)

    batches: list[int] = []
    begun = threading.Barrier(4)
    monkeypatch.setattr(encoder._encode, "_run", _counted(encoder, batches))

    def encode(window: Samples) -> np.ndarray:
        begun.wait()
        return encoder.encode(window).frames

    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(encode, windows), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3)
    assert sum(batches) == 4


def _counted(encoder: Qwen2AudioEncoder, batches: list[int]):
    def work(windows: list[Samples]) -> list[torch.Tensor]:
        batches.append(len(windows))
        return encoder.encode_batch(windows)

    return work


def test_too_much_audio_is_an_error(encoder: Qwen2AudioEncoder) -> None:
    """The text says how much it takes."""
    with pytest.raises(AudioError, match=r"4\.1 s is too long for x, which takes 4 s at most"):
        encoder.encode(np.zeros(16_000 * 4 + 960, np.float32))
