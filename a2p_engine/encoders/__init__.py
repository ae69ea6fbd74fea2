"""Encoders turn audio into frames; a new one is one file and one line in ``ENCODERS``."""

from __future__ import annotations

from collections.abc import Callable

from a2p_engine import models
from a2p_engine.encoders.base import Device, Encoded, Encoder
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import ModelError

__all__ = ["ENCODERS", "Device", "Encoded", "Encoder", "build_encoder"]


def _whisper(name: str, device: Device, workers: int) -> Encoder:
    return WhisperEncoder(models.find(name), name=name, device=device, workers=workers)


def _qwen2_audio(name: str, device: Device, workers: int) -> Encoder:
    from a2p_engine.encoders import qwen2_audio

    directory = models.local(name)
    if directory is None:
        raise ModelError(
            f"encoder {name!r} is not on this machine: run `a2p split qwen2-audio CHECKPOINT "
            f"--out DIRECTORY/{name}` and set A2P_MODELS_DIR to DIRECTORY"
        )
    return qwen2_audio.load_split(directory, device, name=name)


ENCODERS: dict[str, Callable[[str, Device, int], Encoder]] = {
    "whisper-base": _whisper,
    "qwen2-audio-encoder": _qwen2_audio,
}


def build_encoder(name: str, device: Device, workers: int) -> Encoder:
    """Load an encoder by name.

    Raises:
        ModelError: the name is unknown, or the weights are missing or damaged.
    """
    if name not in ENCODERS:
        raise ModelError(f"unknown encoder {name!r}; known are {', '.join(ENCODERS)}")
    return ENCODERS[name](name, device, workers)
