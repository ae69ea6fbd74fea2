"""WebRTC's detector: 40 times cheaper than Silero, but takes most sound for speech."""

from __future__ import annotations

import numpy as np
import webrtcvad

from a2p_engine.types import SAMPLE_RATE_HZ, Samples

MOST_SELECTIVE_MODE = 3


class WebrtcDetector:
    """WebRTC VAD on 30 ms frames; it decides rather than estimates, so 0 and 1 are all it says."""

    frame_samples = 480

    def __init__(self) -> None:
        self.reset()

    def __call__(self, frames: Samples) -> list[float]:
        """See ``VoiceActivityDetector``."""
        pcm = (np.clip(frames, -1.0, 1.0) * 32767).astype("<i2")
        return [float(self._detector.is_speech(row.tobytes(), SAMPLE_RATE_HZ)) for row in pcm]

    def trivial(self, audio: Samples) -> bool:
        """See ``VoiceActivityDetector``."""
        return len(audio) <= SAMPLE_RATE_HZ

    def reset(self) -> None:
        """See ``VoiceActivityDetector``."""
        self._detector = webrtcvad.Vad(MOST_SELECTIVE_MODE)
