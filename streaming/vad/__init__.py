"""Voice activity detectors; a new one is one file and one line in ``DETECTORS``."""

from __future__ import annotations

from collections.abc import Callable

from streaming.errors import BadOption
from streaming.vad.base import VoiceActivityDetector
from streaming.vad.energy import EnergyDetector
from streaming.vad.silero import SileroDetector
from streaming.vad.webrtc import WebrtcDetector

DEFAULT_DETECTOR = "silero"
DETECTORS: dict[str, Callable[[], VoiceActivityDetector]] = {
    "silero": SileroDetector,
    "webrtc": WebrtcDetector,
    "energy": EnergyDetector,
}


def create(name: str) -> VoiceActivityDetector:
    """Build the detector of that name.

    Raises:
        BadOption: there is none of that name.
    """
    try:
        return DETECTORS[name]()
    except KeyError:
        raise BadOption(f"unknown vad {name!r}; accepted are {', '.join(DETECTORS)}") from None
