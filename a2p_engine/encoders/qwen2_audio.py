"""Qwen2-Audio's audio tower and projector: 25 frames a second as wide as a token's embedding.

The library's forward pass takes 30 s and masks what is padding. Here only the audio there is goes
through, in whole frames of 40 ms, which gives the same numbers: the convolutions see enough silence
behind the audio, and attention never sees the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import LOOK_AHEAD_S, AudioEmbeddings, Device, Encoded
from a2p_engine.encoders.whisper_tower import tower_states
from a2p_engine.errors import AudioError
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

MEL_HOP_SAMPLES = SAMPLE_RATE_HZ // 100
# The first convolution keeps the rate of the spectrogram, the second halves it, the pooling again.
HOP_SAMPLES = 4 * MEL_HOP_SAMPLES
# The last state sees one spectrum, 200 samples to each side, behind the audio.
SILENCE_SAMPLES = HOP_SAMPLES
OPEN_ROWS = LOOK_AHEAD_S * SAMPLE_RATE_HZ // HOP_SAMPLES
# Windows encoded together.
BATCH_ROWS = 8


class Qwen2AudioEncoder:
    """Audio tower and projector of a loaded model; thread-safe, windows in batches."""

    hop_samples = HOP_SAMPLES

    def __init__(
        self, tower: Any, projector: nn.Module, *, name: str, trace: Trace | None = None
    ) -> None:
        """Take the parts of a model.

        Args:
            tower: ``Qwen2AudioEncoder`` of transformers.
            projector: maps its states to the width of the language model.
            name: the model's name.
            trace: counts what is done.
        """
        self.name = name
        self.trace = trace or Trace()
        self._tower, self._projector = tower.eval(), projector.eval()
        self.width = int(projector.get_parameter("linear.weight").shape[0])
        self.max_samples = tower.config.max_source_positions * 2 * MEL_HOP_SAMPLES
        features: Any = WhisperFeatureExtractor
        self._features = features(feature_size=tower.config.num_mel_bins)
        self._encode = Batcher(self.encode_batch, limit=BATCH_ROWS)

    def encode(self, samples: Samples) -> Encoded:
        """See ``Encoder.encode``; the last frame is completed with silence.

        Raises:
            AudioError: the window is longer than ``max_samples``.
        """
        self._check(samples)
        rows = self._encode(samples)
        frames = rows.float().cpu().numpy()
        return Encoded(frames=frames, native=AudioEmbeddings(rows, OPEN_ROWS))

    @torch.inference_mode()
    def padded_frames(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Frames [T, D] of a whole window, those of the silence behind the audio included.

        The published heads were trained on them: a word that was not said may look there.

        Raises:
            AudioError: the window is longer than ``max_samples``.
        """
        self._check(samples)
        mel = self._mel([samples], self.max_samples // HOP_SAMPLES)
        longest = mel.shape[2] // 2
        real = -(-len(samples) // (2 * MEL_HOP_SAMPLES))
        embedded = self._embed(mel, [min(real, longest)], longest)
        frames: npt.NDArray[np.float32] = embedded[0].float().cpu().numpy()
        return frames

    def _check(self, samples: Samples) -> None:
        if len(samples) > self.max_samples:
            raise AudioError(
                f"a window of {len(samples) / SAMPLE_RATE_HZ:.1f} s is too long for {self.name}, "
                f"which takes {self.max_samples / SAMPLE_RATE_HZ:.0f} s at most"
            )

    @torch.inference_mode()
    def encode_batch(self, windows: Sequence[Samples]) -> list[Tensor]:
        """[T, D] of each window."""
        counts = [-(-len(window) // HOP_SAMPLES) for window in windows]
        longest = max(counts)
        embedded = (
            self._embed(self._mel(windows, longest), [2 * count for count in counts])
            if longest
            else torch.zeros(len(windows), 0, self.width)
        )
        self.trace.encodes += len(windows)
        self.trace.encoded_frames += sum(counts)
        return [row[:count].clone() for row, count in zip(embedded, counts, strict=True)]

    def _mel(self, windows: Sequence[Samples], frames: int) -> Tensor:
        """Log-mel spectrograms [B, mels, 100 a second], silence behind each window."""
        length = min(frames * HOP_SAMPLES + SILENCE_SAMPLES, self.max_samples)
        padded = [np.pad(window, (0, length - len(window))) for window in windows]
        weight = self._tower.conv1.weight
        found = self._features(
            padded,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="longest",
            truncation=False,
            return_tensors="pt",
            device=str(weight.device),
        )
        mel: Tensor = found["input_features"].to(weight.device, weight.dtype)
        return mel

    def _embed(self, mel: Tensor, counts: Sequence[int], longest: int | None = None) -> Tensor:
        """[B, T, D] for numbers of states; rows behind a window's end are of silence."""
        states = tower_states(self._tower, mel, counts, longest)
        pooled = self._tower.avg_pooler(states.transpose(1, 2)).transpose(1, 2)
        embedded: Tensor = self._projector(self._tower.layer_norm(pooled))
        return embedded


def load_split(directory: Path, device: Device, *, name: str) -> Qwen2AudioEncoder:
    """The encoder alone, of what ``a2p split qwen2-audio`` wrote.

    Args:
        directory: holds audio_tower.safetensors, projector.safetensors and config.json.
        device: ``cpu``, ``cuda`` or ``auto``.
        name: the model's name.

    Raises:
        ModelError: a file is missing or damaged.
    """
    from a2p_engine.speech_llm.pretrained import choose_device, choose_dtype
    from a2p_engine.training.split_qwen2_audio import load_encoder_parts

    where = choose_device(device)
    tower, projector = (
        part.to(where, choose_dtype(where)).requires_grad_(False)
        for part in load_encoder_parts(directory)
    )
    return Qwen2AudioEncoder(tower, projector, name=name)
