"""Whisper's encoder through CTranslate2, on windows as long as the audio instead of 30 s."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from a2p_engine.encoders.base import Device, Encoded
from a2p_engine.errors import AudioError, ModelError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

# Whisper sees 30 s at most. A window that ends in mid-speech makes the decoder loop; two seconds of
# silence behind it stop that, so the longest real audio is 28 s.
TAIL_SILENCE_SAMPLES = 2 * SAMPLE_RATE_HZ
MAX_SAMPLES = 30 * SAMPLE_RATE_HZ - TAIL_SILENCE_SAMPLES


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
    ) -> None:
        """Load CTranslate2 weights from a directory.

        Args:
            directory: holds model.bin, config.json, tokenizer.json and vocabulary.txt.
            name: the model's name, as in ``a2p models list``.
            device: ``cpu``, ``cuda`` or ``auto``.
            compute_type: CTranslate2's name of the arithmetic; ``default`` means int8 on CPU
                and float16 on CUDA.
            workers: windows that may be encoded or decoded at the same time, one thread each.

        Raises:
            ModelError: the directory does not hold a loadable model.
        """
        self.name = name
        self.directory = directory
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if compute_type == "default":
            compute_type = "int8" if device == "cpu" else "float16"
        try:
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
        padded = np.concatenate([samples, np.zeros(TAIL_SILENCE_SAMPLES, np.float32)])
        mel = self.model.feature_extractor(padded, padding=0)  # [80, 10 ms frames]
        mel = mel[:, : mel.shape[1] - mel.shape[1] % 2]
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None], np.float32))
        native = self.model.model.encode(features, to_cpu=True)
        frames = np.asarray(native)[0]  # [T, D]
        real = -(-len(samples) // self.hop_samples)
        return Encoded(frames=frames[:real].copy(), native=native)
