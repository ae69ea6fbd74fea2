"""Silero VAD, a small recurrent network: the default, tells speech from other sound."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

from a2p_engine.errors import ModelError
from a2p_engine.types import Samples

MODEL = "silero_vad_v6.onnx"  # comes with faster-whisper
CONTEXT_SAMPLES = 64  # of the frame before, which the network sees again
STATE_SHAPE = (1, 1, 128)
# A muted microphone sends zeros. After so many frames (1 s) of them the network begins anew and
# need not run: its state never comes to rest, but says nothing any more about what comes next.
MUTED_FRAMES = 31


class SileroDetector:
    """Silero through ONNX Runtime; at most 0.1 ms a frame, next to nothing while muted."""

    frame_samples = 512

    _context: Samples
    _hidden: Samples
    _cell: Samples

    def __init__(self) -> None:
        self._network = _network()
        self.reset()

    def __call__(self, frames: Samples) -> list[float]:
        """See ``VoiceActivityDetector``."""
        if self.trivial(frames):
            return [0.0] * len(frames)
        sound = [bool(frame.any()) for frame in frames]
        if all(sound):
            self._zeros = 0
            return self._run(frames) if len(frames) else []
        return [self._hear(frame, heard) for frame, heard in zip(frames, sound, strict=True)]

    def trivial(self, audio: Samples) -> bool:
        """See ``VoiceActivityDetector``."""
        return self._zeros >= MUTED_FRAMES and not audio.any()

    def reset(self) -> None:
        """See ``VoiceActivityDetector``."""
        self._zeros = 0
        self._forget()

    def _hear(self, frame: Samples, sound: bool) -> float:
        self._zeros = 0 if sound else self._zeros + 1
        if self._zeros < MUTED_FRAMES:
            return self._run(frame[None])[0]
        if self._zeros == MUTED_FRAMES:
            self._forget()
        return 0.0

    def _run(self, frames: Samples) -> list[float]:
        before = np.concatenate([self._context, frames[:-1, -CONTEXT_SAMPLES:]])
        inputs = {"input": np.hstack([before, frames]), "h": self._hidden, "c": self._cell}
        speech, self._hidden, self._cell = self._network.run(None, inputs)
        self._context = frames[-1:, -CONTEXT_SAMPLES:]
        return [float(value) for value in speech]

    def _forget(self) -> None:
        self._context = np.zeros((1, CONTEXT_SAMPLES), np.float32)
        self._hidden = self._cell = np.zeros(STATE_SHAPE, np.float32)


@cache
def _network() -> onnxruntime.InferenceSession:
    """The network without its state, shared by all sessions; it may run in several threads."""
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            str(_path()), providers=["CPUExecutionProvider"], sess_options=options
        )
    except Exception as error:  # ONNX Runtime has no documented root of its errors
        raise ModelError(f"cannot load the voice detector {MODEL}: {error}") from error


def _path() -> Path:
    """Found without importing the package, which would load all of it."""
    package = find_spec("faster_whisper")
    if package is None or not package.submodule_search_locations:
        raise ModelError(f"faster-whisper, which brings {MODEL}, is not installed")
    return Path(package.submodule_search_locations[0]) / "assets" / MODEL
