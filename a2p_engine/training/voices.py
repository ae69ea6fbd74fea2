"""Synthetic voices for training data: one fast voice bent into many speakers, and Kokoro's cast.

The fast voice (hibari) predicts a source and a filter per frame. Pitch, formants, pace, breath and
tilt are changed between the network and its vocoder, which gives any number of different speakers
at about a hundred times real time. Kokoro's voices are real casts, but a hundred times slower.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from a2p_engine.errors import TrainingError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

Array = npt.NDArray[np.float32]

VOICE_RATE_HZ = 24_000
HELD_OUT_VOICES = frozenset(
    {"af_bella", "am_michael", "bf_emma", "bm_george", "af_nova", "am_puck"}
)

# Substitutions that speakers of other languages make in English. The label stays as written in the
# dictionary, so the head learns that these sounds may stand for each other.
_ACCENT: tuple[tuple[str, str], ...] = (
    ("θ", "t"), ("θ", "s"), ("θ", "f"), ("ð", "d"), ("ð", "z"), ("v", "w"), ("w", "v"),
    ("v", "b"), ("z", "s"), ("ʤ", "ʧ"), ("ʒ", "ʃ"), ("ʃ", "s"), ("ɪ", "i"), ("i", "ɪ"),
    ("æ", "ɛ"), ("æ", "a"), ("ʌ", "ɑ"), ("ʌ", "æ"), ("ʊ", "u"), ("ə", "ɛ"), ("ə", "ɑ"),
    ("ɔ", "O"), ("O", "ɔ"), ("A", "ɛ"), ("ɹ", "ɾ"), ("ɹ", "l"), ("l", "ɹ"), ("T", "t"),
    ("ɜɹ", "ɜ"), ("əɹ", "ə"), ("ɛ", "æ"), ("ɑ", "ɔ"), ("ᵊ", "ə"), ("ᵻ", "i"), ("d", "t"),
    ("b", "p"), ("ɡ", "k"), ("ŋ", "n"), ("p", "b"), ("h", ""),
)  # fmt: skip


class Voice(Protocol):
    """Phonemes to speech."""

    name: str

    def speak(self, phonemes: str, rng: np.random.Generator) -> Samples:
        """Say a phoneme string (misaki's alphabet); returns float32 [n] at 16 kHz."""
        ...


def accented(phonemes: str, rng: np.random.Generator) -> str:
    """The same words with one to four sounds swapped, each at most of its places."""
    for choice in rng.choice(len(_ACCENT), size=int(rng.integers(1, 5)), replace=False):
        old, new = _ACCENT[choice]
        keep = float(rng.uniform(0.0, 0.5))
        phonemes = re.sub(
            re.escape(old), lambda m, new=new, keep=keep: m[0] if rng.random() < keep else new,  # type: ignore[misc]
            phonemes,
        )  # fmt: skip
    return phonemes


def _to_engine_rate(audio: Array) -> Samples:
    return np.asarray(soxr.resample(audio, VOICE_RATE_HZ, SAMPLE_RATE_HZ, "MQ"), np.float32)


def _smooth_noise(length: int, period: int, rng: np.random.Generator) -> Array:
    """Gaussian noise that changes over about ``period`` frames; float32 [length]."""
    knots = rng.standard_normal(length // period + 2)
    smooth = np.interp(np.arange(length) / period, np.arange(len(knots)), knots)
    return np.asarray(smooth, np.float32)


def _pick_speaker(rng: np.random.Generator) -> tuple[float, float]:
    """Mean pitch in Hz and formant scale of a speaker who is not there."""
    kind = rng.random()
    if kind < 0.48:
        return float(rng.uniform(75, 165)), float(rng.uniform(0.80, 0.97))
    if kind < 0.93:
        return float(rng.uniform(145, 265)), float(rng.uniform(0.92, 1.10))
    return float(rng.uniform(230, 340)), float(rng.uniform(1.06, 1.20))


class HibariVoice:
    """hibari's one voice; with ``vary`` each call is another speaker."""

    def __init__(self, *, vary: bool = True) -> None:
        """Load the voice that comes with the package."""
        from hibari import Hibari, dsp

        self._tts = Hibari()
        self._synth = dsp.synth
        self._vary = vary
        self.name = "hibari-varied" if vary else "hibari"

    def speak(self, phonemes: str, rng: np.random.Generator) -> Samples:
        """See ``Voice.speak``."""
        speed = float(rng.uniform(0.75, 1.35)) if self._vary else 1.0
        inputs = {
            "ids": np.asarray([self._tts.ids(phonemes)], np.int64),
            "speed": np.asarray([speed], np.float32),
        }
        parts: list[Array] = [part[0] for part in self._tts.sess.run(None, inputs)]
        if self._vary:
            parts = _bend(parts, rng)
        return _to_engine_rate(self._synth(*parts, rng))


def _bend(parts: Sequence[Array], rng: np.random.Generator) -> list[Array]:
    """Another speaker: change pitch, formants, local pace, breath and tilt.

    Args:
        parts: log-magnitude and phase of the harmonic branch, log-magnitude of the noise, then
            log-magnitude and phase of the free branch, each [bins, F], and pitch in Hz [F].
        rng: chooses the speaker.
    """
    harmonic, theta, noise, free, phase, pitch = parts
    bins, frames = harmonic.shape
    mean_hz, formants = _pick_speaker(rng)
    pace = np.exp(0.18 * _smooth_noise(frames, 20, rng))
    at = np.searchsorted(np.cumsum(pace), np.arange(0.5, float(pace.sum()), 1.0))
    time = np.minimum(at, frames - 1)
    bin_of = np.minimum(np.arange(bins) / formants, bins - 1)
    low = bin_of.astype(np.int64)
    high, share = np.minimum(low + 1, bins - 1), (bin_of - low).astype(np.float32)[:, None]

    def warp(magnitude: Array) -> Array:
        lower: Array = magnitude[low][:, time]
        upper: Array = magnitude[high][:, time]
        return np.asarray(lower + share * (upper - lower), np.float32)

    tilt = (rng.normal(0, 0.35) * np.log2(np.arange(1, bins + 1) / 20)).astype(np.float32)[:, None]
    voiced = pitch > 40
    own = float(np.exp(np.log(pitch[voiced]).mean())) if voiced.any() else 190.0
    liveliness = float(rng.uniform(0.4, 1.4))
    bent = np.where(voiced, mean_hz * (np.maximum(pitch, 1) / own) ** liveliness, pitch)
    bent = bent * np.exp(0.02 * _smooth_noise(frames, 2, rng))
    return [
        warp(harmonic) + tilt,
        theta[low][:, time],
        warp(noise) + tilt + np.float32(rng.uniform(-0.7, 0.9)),
        warp(free) + tilt,
        phase[low][:, time],
        bent[time].astype(np.float32),
    ]


class KokoroVoice:
    """One of Kokoro-82M's voices through onnxruntime; voices share the session."""

    def __init__(self, name: str, session: Any, vocabulary: dict[str, int], styles: Array) -> None:
        """Wrap a loaded session.

        Args:
            name: voice name, as ``af_bella``.
            session: onnxruntime session of the model.
            vocabulary: phoneme symbol -> id.
            styles: [510, 1, 256], one row per number of symbols.
        """
        self.name = name
        self._session = session
        self._vocabulary = vocabulary
        self._styles = styles
        self._names = [i.name for i in session.get_inputs()]

    def speak(self, phonemes: str, rng: np.random.Generator) -> Samples:
        """See ``Voice.speak``; the length is limited to 509 symbols."""
        ids = [self._vocabulary[c] for c in phonemes if c in self._vocabulary][:509]
        tokens, style, speed = self._names
        out = self._session.run(
            None,
            {
                tokens: np.asarray([[0, *ids, 0]], np.int64),
                style: self._styles[len(ids)],
                speed: np.asarray([rng.uniform(0.8, 1.25)], np.float32),
            },
        )
        return _to_engine_rate(np.asarray(out[0], np.float32).reshape(-1))


def kokoro_voices(directory: Path, names: Sequence[str] | None = None) -> list[KokoroVoice]:
    """Load Kokoro voices from a directory with model.onnx, vocab.json and voices/*.bin.

    Args:
        directory: where the files are.
        names: which voices; None means all but ``HELD_OUT_VOICES``.

    Raises:
        TrainingError: a file is missing.
    """
    import onnxruntime

    found = {path.stem: path for path in sorted((directory / "voices").glob("*.bin"))}
    chosen = [n for n in found if n not in HELD_OUT_VOICES] if names is None else list(names)
    missing = [name for name in chosen if name not in found]
    if missing or not chosen or not (directory / "model.onnx").is_file():
        raise TrainingError(f"{directory} lacks model.onnx or the voices {', '.join(missing)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    vocabulary = json.loads((directory / "vocab.json").read_text("utf-8"))["vocab"]
    return [
        KokoroVoice(
            name, session, vocabulary, np.fromfile(found[name], np.float32).reshape(510, 1, 256)
        )
        for name in chosen
    ]
