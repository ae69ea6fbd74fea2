"""Noise for tests, made in code and different from that of training: kitchen, babble, white, music.

Everything is float64 at 16 kHz with a mean power of one, the same for the same seed. "Babble" is
voices without words, so that no term is said in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from a2p_engine.audio import read_audio
from a2p_engine.errors import InputError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

Signal = npt.NDArray[np.float64]

TRACK_S = 30.0  # of noise, from which each recording gets a stretch of its own
_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50
_ACTIVE_DB = 30.0  # below the loudest frames, a frame is a pause


def white(samples: int, rng: np.random.Generator) -> Signal:
    """Equal power at all frequencies."""
    return _unit(rng.standard_normal(samples))


def babble(samples: int, rng: np.random.Generator) -> Signal:
    """Six people murmuring."""
    return _unit(np.sum([_murmur(samples, rng) for _ in range(6)], axis=0))


def kitchen(samples: int, rng: np.random.Generator) -> Signal:
    """Crockery, running water, a hood that hums, and people murmuring."""
    return _unit(
        1.0 * _unit(_clatter(samples, rng))
        + 0.5 * _unit(_water(samples, rng))
        + 0.4 * _unit(_hood(samples, rng))
        + 0.4 * babble(samples, rng)
    )


def music(samples: int, rng: np.random.Generator) -> Signal:
    """A plucked arpeggio over a bass and a drum."""
    out = np.zeros(samples)
    beat_s = float(rng.uniform(0.18, 0.35))
    roots = rng.choice([0, 3, 5, 7, 8, 10], size=64)
    for number, at_s in enumerate(np.arange(0, samples / SAMPLE_RATE_HZ, beat_s)):
        root = 110 * 2 ** (roots[number // 8 % len(roots)] / 12)
        note = root * 2 ** (int(rng.choice([0, 4, 7, 12, 16])) / 12)
        _strike(out, at_s, [note * k for k in range(1, 7)], 0.4, 1.0)
        if number % 4 == 0:
            _strike(out, at_s, [root / 2, root], 0.8, 1.5)
            _strike(out, at_s, list(rng.uniform(60, 4000, 12)), 0.03, 0.8)
    return _unit(out)


SOUNDS = {"kitchen": kitchen, "babble": babble, "white": white, "music": music}


def track(name: str, seed: int, seconds: float = TRACK_S) -> Signal:
    """Noise to mix from.

    Args:
        name: one of ``SOUNDS``, or an audio file.
        seed: makes another track of the same kind; a file is what it is.
        seconds: how long.

    Raises:
        InputError: there is neither such a noise nor such a file.
    """
    if name in SOUNDS:
        return SOUNDS[name](round(seconds * SAMPLE_RATE_HZ), np.random.default_rng([seed, 7]))
    if not Path(name).is_file():
        raise InputError(f"noise {name!r} is neither a file nor one of {', '.join(SOUNDS)}")
    return _unit(read_audio(Path(name)).astype(np.float64))


def mix(speech: Samples, noise: Signal, snr_db: float, number: int = 0) -> Samples:
    """Speech with a stretch of a noise track under it.

    Args:
        speech: float32 [n].
        noise: a track; it is repeated where it is too short.
        snr_db: level of the active speech over that of the noise.
        number: of the recording; chooses the stretch.

    Returns:
        float32 [n], scaled down where it would exceed full scale.
    """
    begin = int(np.random.default_rng([number, len(noise)]).integers(len(noise)))
    stretch = _unit(np.resize(np.roll(noise, -begin), len(speech)))
    mixed = speech + stretch * np.sqrt(active_power(speech) * 10 ** (-snr_db / 10))
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max(initial=0.0))), np.float32)


def active_power(speech: Samples) -> float:
    """Mean power of the 20 ms frames that are not pauses: within 30 dB of the loudest twentieth."""
    frames = len(speech) // _FRAME_SAMPLES
    if not frames:
        return float((speech.astype(np.float64) ** 2).mean()) if len(speech) else 0.0
    power = (speech[: frames * _FRAME_SAMPLES].astype(np.float64) ** 2).reshape(frames, -1).mean(1)
    loud = float(np.percentile(power, 95))
    return float(power[power >= loud * 10 ** (-_ACTIVE_DB / 10)].mean())


def _clatter(samples: int, rng: np.random.Generator) -> Signal:
    """Plates, cups and cutlery: now and then a few strikes in a row, each a set of resonances."""
    out = np.zeros(samples)
    at_s = 0.0
    while (at_s := at_s + float(rng.exponential(0.45))) < samples / SAMPLE_RATE_HZ:
        modes = rng.uniform(900, 7000, size=int(rng.integers(4, 9)))
        for strike in range(int(rng.integers(1, 5))):
            begin_s = at_s + strike * float(rng.uniform(0.03, 0.14))
            loud = float(rng.lognormal(0, 0.7))
            _strike(out, begin_s, list(modes), float(rng.uniform(0.02, 0.15)), loud)
    return out


def _strike(out: Signal, at_s: float, modes_hz: list[float], decay_s: float, loud: float) -> None:
    """Add decaying sinusoids that begin at a time."""
    begin = int(at_s * SAMPLE_RATE_HZ)
    time_s = np.arange(min(int(6 * decay_s * SAMPLE_RATE_HZ), len(out) - begin)) / SAMPLE_RATE_HZ
    for number, mode_hz in enumerate(modes_hz):
        ring = np.sin(2 * np.pi * mode_hz * time_s) * np.exp(-time_s / decay_s)
        out[begin : begin + len(time_s)] += loud * ring / (1 + 0.5 * number)


def _water(samples: int, rng: np.random.Generator) -> Signal:
    """A tap: broad noise between 700 Hz and 6 kHz, turned on and off every few seconds."""
    rush = _banded(samples, rng, 700, 6000)
    seconds = np.arange(samples) / SAMPLE_RATE_HZ
    knots = np.arange(0, seconds[-1] + 3 if samples else 3, 1.5)
    opened = rng.choice([0.05, 0.3, 1.0], size=len(knots))
    return np.asarray(rush * np.interp(seconds, knots, opened))


def _hood(samples: int, rng: np.random.Generator) -> Signal:
    """An extractor: mains hum with its harmonics and low air noise."""
    seconds = np.arange(samples) / SAMPLE_RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * k * seconds + rng.uniform(0, 6)) / k for k in range(1, 9))
    return np.asarray(0.5 * hum + _unit(_banded(samples, rng, 60, 500)))


def _murmur(samples: int, rng: np.random.Generator) -> Signal:
    """One voice: harmonics under wandering formants, in syllables."""
    seconds = np.arange(samples) / SAMPLE_RATE_HZ
    knots_s = np.arange(0, samples / SAMPLE_RATE_HZ + 0.4, 0.2)  # about five syllables a second

    def wander(low: float, high: float) -> Signal:
        return np.interp(seconds, knots_s, rng.uniform(low, high, len(knots_s)))

    pitch_hz = float(rng.uniform(95, 220)) * wander(0.85, 1.2)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    formants_hz = (wander(300, 850), wander(900, 2300), wander(2300, 3200))
    voice = np.zeros(samples)
    for harmonic in range(1, 25):
        apart = [(pitch_hz * harmonic - formant) / 150 for formant in formants_hz]
        gain = sum(1 / (1 + off**2) / (k + 1) for k, off in enumerate(apart))
        voice += gain * np.sin(harmonic * phase)
    breath = 0.15 * _banded(samples, rng, 2000, 6000)
    syllables = np.clip(wander(-0.5, 1.0), 0, None)
    return _unit(np.asarray((_unit(voice) + breath) * syllables))


def _banded(samples: int, rng: np.random.Generator, low_hz: float, high_hz: float) -> Signal:
    """Noise between two frequencies, about unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    return _unit(np.fft.irfft(spectrum, samples))


def _unit(signal: Signal) -> Signal:
    """The same with a mean power of one."""
    return np.asarray(signal / (np.sqrt(np.mean(signal**2)) + 1e-12)) if len(signal) else signal
