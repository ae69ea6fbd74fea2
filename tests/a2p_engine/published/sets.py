"""Small sets in the published form, with audio that is heard apart by its pitch."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE_HZ = 8_000


def tone(pitch_hz: float, seconds: float = 0.5) -> np.ndarray:
    """A sine at 8 kHz."""
    return 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


def wav(pitch_hz: float) -> bytes:
    """The same as bytes of a WAV file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(pitch_hz), RATE_HZ, format="WAV")
    return buffer.getvalue()


def pitch(samples: np.ndarray) -> float:
    """The strongest frequency of 16 kHz audio in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * 16_000 / len(samples))


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """An archive with one regular file for each name."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def entry(**changes: Any) -> dict[str, Any]:
    """An utterance with a wav file, texts and hints by language; None takes a key away."""
    value = {
        "id": "u1",
        "wav_path": "a.wav",
        "en": "take apixaban daily",
        "zh": "每天服用阿哌沙班",
        "hints": {"en": ["apixaban"], "zh": ["阿哌沙班"]},
    }
    return {key: given for key, given in (value | changes).items() if given is not None}


def write_json(path: Path, value: object) -> Path:
    """A file of JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path
