"""What the segmenter asks of a voice activity detector."""

from __future__ import annotations

from typing import Protocol

from a2p_engine.types import Samples


class VoiceActivityDetector(Protocol):
    """Gives the probability that a frame of audio holds speech; may remember earlier frames.

    Attributes:
        frame_samples: samples of 16 kHz audio per call, neither more nor fewer.
    """

    frame_samples: int

    def __call__(self, frame: Samples) -> float:
        """Probability in [0, 1] that the float32 [frame_samples] frame holds speech."""
        ...

    def reset(self) -> None:
        """Forget earlier frames."""
        ...
