"""Rooms, microphones, lines, codecs, noise and music put on clean synthetic speech."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from a2p_engine.types import SAMPLE_RATE_HZ, Samples

Spectrum = npt.NDArray[np.complex128] | npt.NDArray[np.float64]

_MOST_COMPRESSED = 0.9999  # libsndfile refuses MP3 above it


def trim(samples: Samples, rng: np.random.Generator) -> Samples:
    """Leave random silence around the speech; four in ten end in mid-speech, with none at all.

    Live windows often end while somebody speaks, and the frames at the end then lack right context.
    """
    loud = np.flatnonzero(np.abs(samples) > 0.02 * max(float(np.abs(samples).max()), 1e-4))
    if len(loud) == 0:
        return samples
    before = int(rng.uniform(0, 0.35) * SAMPLE_RATE_HZ)
    cut_off = rng.random() < 0.4
    after = int((rng.uniform(-0.03, 0.04) if cut_off else rng.uniform(0.1, 0.6)) * SAMPLE_RATE_HZ)
    start, end = int(loud[0]) - before, int(loud[-1]) + after
    padded = np.pad(samples, (max(0, -start), max(0, end - len(samples))))
    return padded[max(0, start) : max(0, -start) + end]


def degrade(samples: Samples, babble: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """A random room, microphone, line, noise and level; one in ten stays as it is.

    Args:
        samples: float32 [n].
        babble: other speech to mix into background talk.
        rng: chooses everything.
    """
    if rng.random() < 0.1 or len(samples) == 0:
        return samples
    telephone = rng.random() < 0.15
    out = _filter(samples, rng, telephone=telephone)
    if rng.random() < 0.6:
        out = out + _noise(len(out), babble, rng) * _noise_gain(out, rng)
    if telephone and rng.random() < 0.6:
        out = mu_law(out)
    elif rng.random() < 0.1:
        out = compressed(out, rng)
    peak = float(np.abs(out).max()) + 1e-9
    out = out / peak * 10 ** (rng.uniform(-30, 0) / 20)
    if rng.random() < 0.05:
        out = np.clip(out, -0.3 * np.abs(out).max(), 0.3 * np.abs(out).max())
    return out.astype(np.float32)


def mu_law(samples: npt.NDArray[np.floating], levels: int = 256) -> npt.NDArray[np.float64]:
    """Through G.711's companding and back (ITU-T G.711, mu = 255), peak normalised first."""
    peak = float(np.abs(samples).max()) + 1e-9
    squeezed = np.sign(samples) * np.log1p(255 * np.abs(samples) / peak) / np.log(256)
    steps = np.round((squeezed + 1) / 2 * (levels - 1)) / (levels - 1) * 2 - 1
    return np.asarray(np.sign(steps) * np.expm1(np.abs(steps) * np.log(256)) / 255 * peak)


def compressed(
    samples: npt.NDArray[np.floating], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Through a lossy codec and back: Opus or MP3 at a random, mostly low, quality."""
    import soundfile

    loud = samples / (float(np.abs(samples).max()) + 1e-9) * 0.9
    container, codec = (("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))[int(rng.integers(2))]
    file = io.BytesIO()
    level = min(float(rng.uniform(0.5, 1.0)), _MOST_COMPRESSED)
    soundfile.write(file, loud, SAMPLE_RATE_HZ, codec, format=container, compression_level=level)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float64")
    return np.resize(decoded, len(samples))  # a codec may add a few samples


def music(length: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Chords with harmonics over a beat, made up note by note; about unit power."""
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    beat_s = float(rng.uniform(0.3, 0.7))
    root_hz = float(rng.uniform(80, 220))
    out = np.zeros(length)
    for begin_s in np.arange(0, length / SAMPLE_RATE_HZ, 2 * beat_s):
        first, last = (int((begin_s + d) * SAMPLE_RATE_HZ) for d in (0.0, 2 * beat_s))
        local = seconds[first:last] - begin_s
        steps = (0, rng.choice([3, 4]), 7, rng.choice([9, 10, 12, 14]))
        chord_hz = root_hz * 2 ** (rng.choice([0, 2, 5, 7, 9]) / 12)
        for step in steps:
            for harmonic in range(1, int(rng.integers(3, 7))):
                hz = chord_hz * 2 ** (step / 12) * harmonic
                out[first:last] += np.sin(2 * np.pi * hz * local) * np.exp(-local) / harmonic
    pulse = np.exp(-(seconds % beat_s) * 25) * rng.standard_normal(length)
    out += pulse * rng.uniform(0, 3)
    return np.asarray(out / (np.sqrt((out**2).mean()) + 1e-9))


def _filter(
    samples: Samples, rng: np.random.Generator, *, telephone: bool
) -> npt.NDArray[np.float64]:
    """Room, microphone and telephone band in one multiplication in the frequency domain."""
    room = _room(rng) if rng.random() < 0.45 else np.ones(1)
    size = _fast_size(len(samples) + len(room))
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    response: Spectrum = np.fft.rfft(room, size)
    if rng.random() < 0.6:
        knots = np.log2([60, 150, 400, 1000, 2500, 6000, 8000])
        gain_db = np.interp(np.log2(hz + 1), knots, rng.normal(0, 4, len(knots)))
        response = response * 10 ** (gain_db / 20)
    if telephone:
        low, high = rng.uniform(150, 350), rng.uniform(3000, 3700)
        response = response / np.sqrt(1 + (low / (hz + 1)) ** 8) / np.sqrt(1 + (hz / high) ** 24)
    filtered = np.fft.irfft(np.fft.rfft(samples, size) * response, size)
    return np.asarray(filtered[: len(samples)], np.float64)


def _fast_size(least: int) -> int:
    """Smallest size of the form 2^a * {4, 5, 6, 7} that holds ``least`` samples."""
    power = 1 << max(0, least.bit_length() - 3)
    return next(power * k for k in (4, 5, 6, 7, 8) if power * k >= least)


def _room(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Impulse response of a room: the direct sound and a decaying noise tail.

    One in five is far-field: a longer decay, and more of it than of the direct sound.
    """
    far = rng.random() < 0.2
    decay_s = rng.uniform(0.4, 1.1) if far else rng.uniform(0.1, 0.7)  # time to -60 dB
    time_s = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail[: int(rng.uniform(0.001, 0.012) * SAMPLE_RATE_HZ)] = 0
    level_db = rng.uniform(-3, 6) if far else rng.uniform(-18, 2)
    tail *= 10 ** (level_db / 20) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1
    return tail


def _noise(
    length: int, babble: Sequence[Samples], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """White, coloured or babble noise or music of that length, about unit power."""
    kind = rng.random()
    if kind > 0.85:
        noise = music(length, rng)
    elif babble and kind < 0.35:
        talkers = rng.choice(len(babble), size=int(rng.integers(1, 6)))
        talk = (
            np.resize(np.roll(babble[t], int(rng.integers(0, len(babble[t])))), length)
            for t in talkers
        )
        noise = np.asarray(sum(talk), np.float64)
    else:
        size = _fast_size(length)
        slope = 0.0 if kind < 0.5 else rng.uniform(0.3, 1.2)
        hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
        spectrum = np.fft.rfft(rng.standard_normal(size)) / np.maximum(hz, 20) ** slope
        noise = np.fft.irfft(spectrum, size)[:length]
    return np.asarray(noise / (np.sqrt((noise**2).mean()) + 1e-9), np.float64)


def _noise_gain(speech: npt.NDArray[np.floating], rng: np.random.Generator) -> float:
    """Amplitude that puts unit-power noise 3 to 35 dB below the speech."""
    return float(np.sqrt((speech**2).mean()) * 10 ** (-rng.uniform(3, 35) / 20))
