"""Whisper's encoder through CTranslate2, on windows as long as the audio instead of 30 s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel

from a2p_engine.batching import Batcher
from a2p_engine.encoders.base import Device, Encoded
from a2p_engine.errors import AudioError, ModelError
from a2p_engine.kernel_memory import bound_kernels
from a2p_engine.threads import own_threads
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

# Whisper sees 30 s at most. A window that ends in mid-speech makes the decoder loop; two seconds of
# silence behind it stop that, so the longest real audio is 28 s.
TAIL_SILENCE_SAMPLES = 2 * SAMPLE_RATE_HZ
MAX_SAMPLES = 30 * SAMPLE_RATE_HZ - TAIL_SILENCE_SAMPLES
# Only windows of one length share a batch, so where there are batches lengths are rounded up to it.
BATCH_STEP_SAMPLES = SAMPLE_RATE_HZ
CUDA_BATCH = 8


Mel = npt.NDArray[np.floating]  # [80, 10 ms frames]


class WhisperEncoder:
    """Encoder half of a Whisper model; the decoder half shares ``model``."""

    hop_samples = 320  # two 10 ms mel frames: 50 Hz

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "whisper",
        device: Device = "auto",
        compute_type: str = "default",
        workers: int = 1,
        batch: int | None = None,
    ) -> None:
        """Load CTranslate2 weights from a directory.

        Args:
            directory: holds model.bin, config.json, tokenizer.json and vocabulary.txt.
            name: the model's name, as in ``a2p models list``.
            device: ``cpu``, ``cuda`` or ``auto``.
            compute_type: CTranslate2's name of the arithmetic; ``default`` means int8 on CPU
                and float16 on CUDA.
            workers: windows that may be encoded or decoded at the same time, one thread each.
            batch: most windows encoded or decoded in one call; None is 1 on CPU, where workers
                side by side are faster, and ``CUDA_BATCH`` on CUDA.

        Raises:
            ModelError: the directory does not hold a loadable model.
        """
        self.name = name
        self.directory = directory
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "default":
            compute_type = "int8" if device == "cpu" else "float16"
        bound_kernels()
        try:
            with own_threads():
                self.model = WhisperModel(
                    str(directory),
                    device=device,
                    compute_type=compute_type,
                    cpu_threads=1,
                    num_workers=workers,
                    local_files_only=True,
                )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"cannot load Whisper weights from {directory}: {error}") from error
        self.batch = batch or (CUDA_BATCH if device == "cuda" else 1)
        self._encode = Batcher(self._encode_all, limit=self.batch, alike=lambda mel: mel.shape)
        self.width = int(self.encode(np.zeros(SAMPLE_RATE_HZ, np.float32)).frames.shape[1])

    def encode(self, samples: Samples) -> Encoded:
        """See ``Encoder.encode``.

        Raises:
            AudioError: the window is longer than ``MAX_SAMPLES``.
        """
        if len(samples) > MAX_SAMPLES:
            raise AudioError(
                f"a window of {len(samples) / SAMPLE_RATE_HZ:.1f} s is too long for Whisper, "
                f"which takes {MAX_SAMPLES / SAMPLE_RATE_HZ:.0f} s at most"
            )
        step = BATCH_STEP_SAMPLES if self.batch > 1 else 1
        silence = TAIL_SILENCE_SAMPLES + -len(samples) % step
        padded = np.concatenate([samples, np.zeros(silence, np.float32)])
        mel = self.model.feature_extractor(padded, padding=0)  # [80, 10 ms frames]
        mel = mel[:, : mel.shape[1] - mel.shape[1] % 2]
        native = self._encode(mel)
        frames = np.asarray(native)[0]  # [T, D]
        real = -(-len(samples) // self.hop_samples)
        return Encoded(frames=frames[:real].copy(), native=native)

    @staticmethod
    def join(natives: Sequence[ctranslate2.StorageView]) -> ctranslate2.StorageView:
        """Several encoded windows of one length, [1, T, D] each, as one of [B, T, D]."""
        return ctranslate2.StorageView.from_array(
            np.concatenate([np.asarray(native) for native in natives])
        )

    def _encode_all(self, mels: Sequence[Mel]) -> list[ctranslate2.StorageView]:
        """Windows of one length to [1, T, D] each."""
        features = ctranslate2.StorageView.from_array(np.stack(mels).astype(np.float32))
        native = self.model.model.encode(features, to_cpu=True)
        if len(mels) == 1:
            return [native]
        rows = np.asarray(native)[:, None]  # [B, 1, T, D]
        return [ctranslate2.StorageView.from_array(row.copy()) for row in rows]
