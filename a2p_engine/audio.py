"""Recordings as the engine takes them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr

from a2p_engine.errors import AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples


def read_audio(path: Path | str) -> Samples:
    """Read a whole audio file: float32 [n], mono, 16 kHz.

    Raises:
        AudioError: the file cannot be read as audio, or holds none.
    """
    if not Path(path).is_file():
        raise AudioError(f"{path}: no such file")
    return _read(path, str(path))


def decode_audio(data: bytes, name: str) -> Samples:
    """The same of a file's bytes.

    Args:
        data: the whole file.
        name: what it is, for errors.

    Raises:
        AudioError: the bytes cannot be read as audio, or hold none.
    """
    return _read(io.BytesIO(data), name)


def _read(source: Path | str | io.BytesIO, name: str) -> Samples:
    try:
        audio, rate_hz = soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{name} cannot be read as audio: {error}") from error
    if not len(audio):
        raise AudioError(f"{name} holds no audio")
    return np.asarray(soxr.resample(audio.mean(axis=1), rate_hz, SAMPLE_RATE_HZ), np.float32)
