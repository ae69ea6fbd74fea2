"""Qwen3-ASR's audio tower and projector: 13 frames a second as wide as a token's embedding.

The tower works on seconds of sound, each of which ends in a frame that is half a frame long, and
its attention on eight seconds at a time; both are the library's own. The language model reads all
of these frames. The retriever's come every 80 ms: those of them that lie there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Qwen3ASRFeatureExtractor

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import LOOK_AHEAD_S, AudioEmbeddings, Encoded
from a2p_engine.errors import AudioError
from a2p_engine.trace import Trace
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

MEL_HOP_SAMPLES = SAMPLE_RATE_HZ // 100
# Three convolutions halve the rate of the spectrogram.
HOP_SAMPLES = 8 * MEL_HOP_SAMPLES
OPEN_ROWS = 13 * LOOK_AHEAD_S
# The model takes 20 minutes; a segment that long would be no caption.
MAX_SAMPLES = 30 * SAMPLE_RATE_HZ
# Windows encoded together.
BATCH_ROWS = 8


class Qwen3ASREncoder:
    """Audio tower and projector of a loaded model; thread-safe, windows in batches."""

    hop_samples = HOP_SAMPLES
    max_samples = MAX_SAMPLES

    def __init__(self, model: Any, *, name: str, trace: Trace | None = None) -> None:
        """Take the parts of a model.

        Args:
            model: ``Qwen3ASRModel`` of transformers.
            name: the model's name.
            trace: counts what is done.
        """
        self.name = name
        self.trace = trace or Trace()
        self._model = model.eval()
        config = model.config.audio_config
        self.width = int(config.output_dim)
        self._second_samples = 2 * config.n_window * MEL_HOP_SAMPLES
        features: Any = Qwen3ASRFeatureExtractor
        self._features = features(feature_size=config.num_mel_bins, n_window=config.n_window)
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
        even = self._even_rows(len(samples))
        frames = rows.float().cpu().numpy()[even]
        return Encoded(frames=frames, native=AudioEmbeddings(rows, OPEN_ROWS))

    @torch.inference_mode()
    def encode_batch(self, windows: Sequence[Samples]) -> list[Tensor]:
        """[T, D] of each window, as the language model reads them; windows may be empty."""
        heard = [window for window in windows if len(window)]
        found = iter(self._embed([self._mel(window) for window in heard]) if heard else ())
        self.trace.encodes += len(windows)
        rows = [next(found) if len(window) else torch.zeros(0, self.width) for window in windows]
        self.trace.encoded_frames += sum(map(len, rows))
        return rows

    def _even_rows(self, samples: int) -> npt.NDArray[np.int64]:
        """Which rows begin at, or just before, each multiple of the hop."""
        seconds, rest = np.divmod(np.arange(0, samples, HOP_SAMPLES), self._second_samples)
        of_a_second = -(-self._second_samples // HOP_SAMPLES)
        rows: npt.NDArray[np.int64] = seconds * of_a_second + rest // HOP_SAMPLES
        return rows

    def _mel(self, window: Samples) -> tuple[Tensor, Tensor]:
        """Log-mel spectrogram [mels, 100 a second] in whole seconds, and where there is sound."""
        whole = np.pad(window, (0, -len(window) % MEL_HOP_SAMPLES))
        found = self._features(
            whole,
            sampling_rate=SAMPLE_RATE_HZ,
            padding="longest",
            return_attention_mask=True,
            return_tensors="pt",
            device=str(self._model.audio_tower.conv2d1.weight.device),
        )
        return found["input_features"][0], found["attention_mask"][0]

    def _embed(self, spectrograms: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        longest = max(len(mask) for _, mask in spectrograms)
        mel, mask = (
            torch.stack([torch.nn.functional.pad(x, (0, longest - x.shape[-1])) for x in part])
            for part in zip(*spectrograms, strict=True)
        )
        weight = self._model.audio_tower.conv2d1.weight
        found = self._model.get_audio_features(
            mel.to(weight.device, weight.dtype), mask.to(weight.device), return_dict=True
        )
        counts = self._model.audio_tower._post_cnn_length(_seconds(mask, self._second_samples))
        rows: tuple[Tensor, ...] = found.pooler_output.split(counts.sum(1).tolist())
        return [row.clone() for row in rows]


def _seconds(mask: Tensor, second_samples: int) -> Tensor:
    """Spectra with sound in each second of each window, [B, seconds]."""
    return mask.long().view(len(mask), -1, second_samples // MEL_HOP_SAMPLES).sum(-1)
