"""From audio in pieces of any size to the speech probability of each of the detector's frames."""

from __future__ import annotations

import numpy as np

from a2p_engine.types import Samples
from streaming.vad.base import VoiceActivityDetector


class Listener:
    """Cuts audio into the detector's frames; keeps what does not fill a frame yet."""

    def __init__(self, vad: VoiceActivityDetector) -> None:
        self._vad = vad
        self._rest: Samples = np.zeros(0, np.float32)

    def hear(self, audio: Samples) -> list[float]:
        """Speech probability of every frame that ``audio`` completes."""
        audio = np.concatenate([self._rest, audio])
        size = self._vad.frame_samples
        whole = len(audio) - len(audio) % size
        self._rest = audio[whole:]
        return self._vad(audio[:whole].reshape(-1, size)) if whole else []

    def trivial(self, audio: Samples) -> bool:
        """Whether ``hear`` is too little work to be handed to a thread."""
        return self._vad.trivial(audio)

    def finish(self) -> list[float]:
        """Speech probability of the last, incomplete frame, if there is one."""
        if not len(self._rest):
            return []
        return self.hear(np.zeros(self._vad.frame_samples - len(self._rest), np.float32))
