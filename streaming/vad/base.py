"""What the segmenter asks of a voice activity detector."""

from __future__ import annotations

from typing import Protocol

from a2p_engine.types import Samples


class VoiceActivityDetector(Protocol):
    """Gives the probability that a frame of audio holds speech; may remember earlier frames.

    Attributes:
        frame_samples: samples of 16 kHz audio in a frame.
    """

    frame_samples: int

    def __call__(self, frames: Samples) -> list[float]:
        """Probability in [0, 1] that each of the float32 [n, frame_samples] frames holds speech.

        Frames give the same in any number of calls.
        """
        ...

    def trivial(self, audio: Samples) -> bool:
        """Whether hearing so much is too little work to be handed to a thread."""
        ...

    def reset(self) -> None:
        """Forget earlier frames."""
        ...
