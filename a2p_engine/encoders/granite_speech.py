"""Granite Speech's conformer and projector: 10 frames a second as wide as a token's embedding.

The spectrogram is that of the model's processor, computed here because the library's needs
torchaudio. Neither conformer nor projector knows of padding, so that windows of different lengths
go through one after another; three frames of 100 ms are made at a time, and the language model
reads those behind the end as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import LOOK_AHEAD_S, AudioEmbeddings, Encoded
from a2p_engine.errors import AudioError
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

FFT_SAMPLES, WINDOW_SAMPLES, MEL_HOP_SAMPLES = 512, 400, 160
# Spectra are stacked in pairs, and the projector makes one of five.
HOP_SAMPLES = 10 * MEL_HOP_SAMPLES
OPEN_ROWS = LOOK_AHEAD_S * SAMPLE_RATE_HZ // HOP_SAMPLES
MAX_SAMPLES = 30 * SAMPLE_RATE_HZ
# Sessions that wait for each other.
BATCH_ROWS = 8


class GraniteSpeechEncoder:
    """Conformer and projector of a loaded model; thread-safe."""

    hop_samples = HOP_SAMPLES
    max_samples = MAX_SAMPLES

    def __init__(self, model: Any, *, name: str, trace: Trace | None = None) -> None:
        """Take the parts of a model.

        Args:
            model: ``GraniteSpeechModel`` of transformers.
            name: the model's name.
            trace: counts what is done.
        """
        self.name = name
        self.trace = trace or Trace()
        self._model = model.eval()
        self.width = int(model.config.text_config.hidden_size)
        filters = mel_filter_bank(
            FFT_SAMPLES // 2 + 1,
            model.config.encoder_config.input_dim // 2,
            0.0,
            SAMPLE_RATE_HZ / 2,
            SAMPLE_RATE_HZ,
        )
        self._filters = torch.from_numpy(filters).float().T  # [mels, frequencies]
        self._window = torch.hann_window(WINDOW_SAMPLES)
        self._encode = Batcher(self.encode_batch, limit=BATCH_ROWS)

    def encode(self, samples: Samples) -> Encoded:
        """See ``Encoder.encode``; the last frame is completed with silence.

        Raises:
            AudioError: the window is longer than ``max_samples``.
        """
        if len(samples) > self.max_samples:
            raise AudioError(
                f"a window of {len(samples) / SAMPLE_RATE_HZ:.1f} s is too long for {self.name}, "
                f"which takes {self.max_samples / SAMPLE_RATE_HZ:.0f} s at most"
            )
        rows = self._encode(samples)
        frames = rows[: -(-len(samples) // HOP_SAMPLES)].float().cpu().numpy()
        return Encoded(frames=frames, native=AudioEmbeddings(rows, OPEN_ROWS))

    @torch.inference_mode()
    def encode_batch(self, windows: Sequence[Samples]) -> list[Tensor]:
        """[T, D] of each window, as the language model reads them; windows may be empty."""
        rows = [self._embed(window) for window in windows]
        self.trace.encodes += len(windows)
        self.trace.encoded_frames += sum(map(len, rows))
        return rows

    def spectra(self, samples: Samples) -> Tensor:
        """Log-mel spectra in pairs, float32 [50 a second, 2 * mels].

        Args:
            samples: float32 [n], at least half a transform long.
        """
        found = torch.stft(
            torch.from_numpy(samples),
            FFT_SAMPLES,
            MEL_HOP_SAMPLES,
            WINDOW_SAMPLES,
            self._window,
            return_complex=True,
        )
        mel = (self._filters @ found.abs() ** 2).T.clamp_min(1e-10).log10()
        mel = torch.maximum(mel, mel.max() - 8.0) / 4 + 1
        return mel[: len(mel) // 2 * 2].reshape(-1, 2 * mel.shape[1])

    def _embed(self, window: Samples) -> Tensor:
        if not len(window):
            return torch.zeros(0, self.width)
        whole = np.pad(window, (0, -len(window) % HOP_SAMPLES))
        weight = self._model.encoder.input_linear.weight
        spectra = self.spectra(whole)[None].to(weight.device, weight.dtype)
        found: Tensor = self._model.get_audio_features(spectra, return_dict=True).pooler_output
        return found[0]
