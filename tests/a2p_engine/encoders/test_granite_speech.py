"""Granite Speech's encoder, compared with the library's own processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GraniteSpeechForConditionalGeneration
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from a2p_engine.audio import read_audio
from a2p_engine.encoders.granite_speech import GraniteSpeechEncoder
from a2p_engine.errors import AudioError
from a2p_engine.speech_llm.shapes import find
from a2p_engine.types import Samples
from tests.a2p_engine.speech_llm import tiny

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
FRAME = 1_600


@pytest.fixture(scope="module")
def model() -> GraniteSpeechForConditionalGeneration:
    """Tiny."""
    return tiny.granite_speech(tiny.granite_tokenizer())


@pytest.fixture
def encoder(model: GraniteSpeechForConditionalGeneration) -> GraniteSpeechEncoder:
    """Of the model."""
    return GraniteSpeechEncoder(model.model, name="x")


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Four seconds of the ward round."""
    return read_audio(RECORDING)[16_000 : 16_000 * 5]


def reference(samples: Samples, mels: int) -> torch.Tensor:
    """The processor's spectra, with the library's own functions, [50 a second, 2 * mels]."""
    filters = mel_filter_bank(257, mels, 0.0, 8_000.0, 16_000, norm=None, mel_scale="htk")
    found = spectrogram(
        samples,
        window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        mel_filters=filters,
        mel_floor=1e-10,
        log_mel="log10",
    ).T
    found = np.maximum(found, found.max() - 8) / 4 + 1
    pairs = found[: len(found) // 2 * 2].reshape(-1, 2 * mels)
    return torch.from_numpy(pairs.astype(np.float32))


def test_spectra_are_those_of_the_processor() -> None:
    """Numbers that GraniteSpeechFeatureExtractor gave, with torchaudio, for a rising tone."""
    encoder = GraniteSpeechEncoder(find("granite-speech-4.1-2b").build(), name="x")
    seconds = np.arange(3_200) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * (200 + 9_000 * seconds) * seconds)
    spectra = encoder.spectra(tone.astype(np.float32))
    assert spectra.shape == (10, 160)
    wanted = [
        [1.3912, 1.5140, 0.5982, 1.5162, -0.2429],
        [-0.2500, -0.2500, 0.1501, -0.2500, -0.2500],
        [-0.2500, -0.2500, 0.0916, -0.2500, -0.2500],
        [-0.2500, -0.2500, -0.2500, -0.2500, -0.0989],
    ]
    found = spectra[::3, [0, 5, 40, 90, 159]]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=2e-4, rtol=0)
    assert float(spectra.sum()) == pytest.approx(70.2595, abs=0.01)


@pytest.mark.parametrize("samples", [1_600, 4_800, 33_600, 64_000])
@torch.no_grad()
def test_the_language_model_reads_what_the_library_makes(
    model: GraniteSpeechForConditionalGeneration,
    encoder: GraniteSpeechEncoder,
    speech: Samples,
    samples: int,
) -> None:
    """Three rows for every started 300 ms, those behind the end included."""
    window = speech[:samples]
    torch.testing.assert_close(encoder.spectra(window), reference(window, 16), atol=1e-4, rtol=1e-3)
    wanted = model.get_audio_features(reference(window, 16)[None], return_dict=True).pooler_output
    rows = encoder.encode(window).native.rows
    assert len(rows) == 3 * -(-samples // 4_800)
    torch.testing.assert_close(rows, wanted[0], atol=5e-3, rtol=1e-2)


@pytest.mark.parametrize("samples", [0, 1, 1_599, 1_600, 1_601, 4_800, 4_801, 20_500])
def test_frames_come_every_100_ms(
    encoder: GraniteSpeechEncoder, speech: Samples, samples: int
) -> None:
    """One for every started one, the same as with silence behind."""
    frames = -(-samples // FRAME)
    found = encoder.encode(speech[:samples]).frames
    assert found.shape == (frames, encoder.width)
    whole = np.pad(speech[:samples], (0, frames * FRAME - samples))
    np.testing.assert_array_equal(found, encoder.encode(whole).frames)


def test_windows_of_several_sessions_do_not_hear_each_other(
    encoder: GraniteSpeechEncoder, speech: Samples
) -> None:
    """Together they give what each gives alone; empty ones give nothing."""
    windows = [speech[:20_000], speech[5_000:50_000], speech[:0], speech[100:740]]
    alone = [encoder.encode(window).native.rows for window in windows]
    for one, other in zip(alone, encoder.encode_batch(windows), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)
    assert encoder.trace.encodes == 2 * len(windows)


def test_too_much_audio_is_an_error(encoder: GraniteSpeechEncoder) -> None:
    """The text says how much it takes."""
    with pytest.raises(AudioError, match=r"31\.0 s is too long for x, which takes 30 s at most"):
        encoder.encode(np.zeros(16_000 * 31, np.float32))
