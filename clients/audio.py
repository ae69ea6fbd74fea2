"""Audio on its way to the server: its format, and files and standard input as paced PCM."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from clients.errors import AudioError

Encoding = Literal["pcm_s16le", "pcm_f32le"]

SAMPLE_BYTES: dict[str, int] = {"pcm_s16le": 2, "pcm_f32le": 4}
SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 32_000, 44_100, 48_000)
FILE_RATE_HZ = 16_000
CHUNK_MS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFormat:
    """How the bytes of a session are to be read; announced once, at its start.

    Attributes:
        encoding: 16-bit integers or 32-bit floats, little-endian.
        sample_rate_hz: one of ``SAMPLE_RATES_HZ``.
        channels: 1, or 2 interleaved.

    Raises:
        AudioError: a value is not one the protocol knows.
    """

    encoding: Encoding = "pcm_s16le"
    sample_rate_hz: int = 16_000
    channels: int = 1

    def __post_init__(self) -> None:
        """Refuse what the server would refuse, before a connection is made."""
        _require("encoding", self.encoding, tuple(SAMPLE_BYTES))
        _require("sample_rate_hz", self.sample_rate_hz, SAMPLE_RATES_HZ)
        _require("channels", self.channels, (1, 2))

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return SAMPLE_BYTES[self.encoding] * self.channels

    def bytes_of(self, seconds: float) -> int:
        """Whole frames in ``seconds`` of audio, in bytes."""
        return round(seconds * self.sample_rate_hz) * self.frame_bytes

    def seconds_of(self, n_bytes: int) -> float:
        """Seconds of audio in ``n_bytes``."""
        return n_bytes / (self.sample_rate_hz * self.frame_bytes)


def _require(name: str, value: object, accepted: tuple[object, ...]) -> None:
    if value not in accepted:
        raise AudioError(f"{name} {value!r} is not one of {', '.join(map(str, accepted))}")


def audio_duration_s(path: str | Path) -> float:
    """Length of an audio file in seconds.

    Raises:
        AudioError: the file cannot be read as audio.
    """
    with _open(path) as file:
        return float(file.frames / file.samplerate)


async def stream_file(
    path: str | Path, pace: float = 1.0, *, chunk_ms: int = CHUNK_MS
) -> AsyncIterator[bytes]:
    """Yield a file as 16 kHz mono ``pcm_s16le``, as if it were being spoken now.

    A chunk comes when its last sample would have been recorded, so that latencies measured with a
    file are those of a microphone. The clock is absolute: a slow consumer does not make it drift.

    Args:
        path: anything libsndfile reads: WAV, FLAC, OGG, MP3, AIFF.
        pace: 1.0 is real time, 2.0 twice as fast, 0 as fast as the consumer takes it.
        chunk_ms: length of a chunk; the last one may be shorter.

    Raises:
        AudioError: the file cannot be read as audio.
    """
    samples = FILE_RATE_HZ * chunk_ms // 1000
    started, sent = asyncio.get_running_loop().time(), 0
    for chunk in _file_chunks(path, samples):
        sent += len(chunk) // 2
        await _sleep_until(started + sent / FILE_RATE_HZ / pace if pace else 0.0)
        yield chunk


async def stream_stdin(
    audio: AudioFormat | None = None, *, file: BinaryIO | None = None, chunk_ms: int = CHUNK_MS
) -> AsyncIterator[bytes]:
    """Yield raw PCM from standard input as it arrives, until it ends.

    Args:
        audio: its format, by default 16 kHz mono ``pcm_s16le``; sets the size of a chunk.
        file: a binary file to read instead of standard input.
        chunk_ms: most audio in a chunk.
    """
    source = file or sys.stdin.buffer
    size = (audio or AudioFormat()).bytes_of(chunk_ms / 1000)
    # read1 gives what is there; read would hold the audio back until a chunk is full.
    read = getattr(source, "read1", source.read)
    while chunk := await asyncio.to_thread(read, size):
        yield chunk


def _open(path: str | Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        reason = "no such file" if not Path(path).exists() else f"not readable as audio: {error}"
        raise AudioError(f"{path}: {reason}") from error


def _file_chunks(path: str | Path, chunk_samples: int) -> Iterator[bytes]:
    """16 kHz mono int16 bytes in chunks of ``chunk_samples``."""
    pending = np.zeros(0, np.int16)
    for block in _resampled(path):
        pending = np.concatenate([pending, block])
        whole = len(pending) - len(pending) % chunk_samples
        for start in range(0, whole, chunk_samples):
            yield pending[start : start + chunk_samples].tobytes()
        pending = pending[whole:]
    if len(pending):
        yield pending.tobytes()


def _resampled(path: str | Path) -> Iterator[npt.NDArray[np.int16]]:
    with _open(path) as file:
        resampler = soxr.ResampleStream(file.samplerate, FILE_RATE_HZ, 1, dtype="float32")
        for block in file.blocks(blocksize=file.samplerate, dtype="float32", always_2d=True):
            yield _int16(resampler.resample_chunk(np.ascontiguousarray(block.mean(axis=1))))
        yield _int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True))


def _int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)


async def _sleep_until(time_s: float) -> None:
    await asyncio.sleep(max(0.0, time_s - asyncio.get_running_loop().time()))


def level_dbfs(pcm_s16le: bytes) -> float:
    """Loudness of a chunk: root mean square in decibels relative to full scale, -96 at least."""
    samples = np.frombuffer(pcm_s16le[: len(pcm_s16le) // 2 * 2], "<i2").astype(np.float64) / 32768
    power = float(np.mean(samples**2)) if len(samples) else 0.0
    return max(-96.0, 10 * math.log10(power)) if power > 0 else -96.0
