"""PCM bytes as they come off the wire to the engine's audio: float32, mono, 16 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr

from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from streaming.errors import TruncatedAudio

# "opus" is one packet a message, "container" anything that tells what is in it (see codecs.py).
Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "container"]
ENCODINGS: dict[Encoding, np.dtype[np.generic]] = {
    "pcm_s16le": np.dtype("<i2"),
    "pcm_f32le": np.dtype("<f4"),
    "mulaw": np.dtype("u1"),
    "alaw": np.dtype("u1"),
}
PCM_ENCODINGS: tuple[Encoding, ...] = ("pcm_s16le", "pcm_f32le")
SAMPLE_RATES_HZ = (8_000, 16_000, 24_000, 32_000, 44_100, 48_000)
CHANNELS = (1, 2)
COMPRESSED_BYTES_PER_S = 32_000  # between Opus at its lowest and a studio's FLAC


def _mulaw_table() -> Samples:
    """Linear value of each code of G.711's mu-law (ITU-T G.711, table 2)."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float32) / 32768.0


def _alaw_table() -> Samples:
    """Linear value of each code of G.711's A-law (ITU-T G.711, table 1)."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    above = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, above, -above).astype(np.float32) / 32768.0


COMPANDED: dict[Encoding, Samples] = {"mulaw": _mulaw_table(), "alaw": _alaw_table()}


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFormat:
    """What a client sends; the default is what most of them have."""

    encoding: Encoding = "pcm_s16le"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return ENCODINGS[self.encoding].itemsize * self.channels

    def seconds(self, size_bytes: int) -> float:
        """How long that many bytes last; of compressed ones, how long they usually would."""
        if self.encoding not in ENCODINGS:
            return size_bytes / COMPRESSED_BYTES_PER_S
        return size_bytes / self.frame_bytes / self.sample_rate_hz


class AudioDecoder:
    """Decodes one stream; bytes may be cut anywhere, and the cuts leave no trace in the output."""

    blocking = False

    def __init__(self, audio_format: AudioFormat) -> None:
        self._format = audio_format
        self._rest = b""  # the beginning of a sample whose other bytes have not come yet
        self._frames = 0
        self._resampler: soxr.ResampleStream | None = None
        if audio_format.sample_rate_hz != SAMPLE_RATE_HZ:
            self._resampler = soxr.ResampleStream(
                audio_format.sample_rate_hz, SAMPLE_RATE_HZ, num_channels=1, dtype="float32"
            )

    @property
    def frames(self) -> int:
        """Whole frames (samples of all channels, at the rate of the stream) taken so far."""
        return self._frames

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the stream."""
        return self._format.sample_rate_hz

    def realign(self) -> None:
        """Forget the beginning of an incomplete frame: what follows begins with a whole one."""
        self._rest = b""

    def silence(self, frames: int) -> bytes:
        """Bytes of silence of that length."""
        zero = {"mulaw": b"\xff", "alaw": b"\xd5"}.get(self._format.encoding, b"\0")
        return zero * (frames * self._format.frame_bytes)

    def decode(self, data: bytes) -> Samples:
        """All samples that the bytes so far complete; resampling holds back a few milliseconds."""
        data = self._rest + data
        whole = len(data) - len(data) % self._format.frame_bytes
        self._rest = data[whole:]
        self._frames += whole // self._format.frame_bytes
        return self._resample(self._to_mono(data[:whole]), last=False)

    def finish(self) -> Samples:
        """What the resampler still holds, once, at the end of the stream."""
        return self._resample(np.zeros(0, np.float32), last=True)

    def check_complete(self) -> None:
        """Tell whether the stream ended between two samples.

        Raises:
            TruncatedAudio: bytes of an incomplete sample were left over; they are dropped.
        """
        if self._rest:
            raise TruncatedAudio(
                f"the audio ended inside a sample: {len(self._rest)} of "
                f"{self._format.frame_bytes} bytes; they were dropped"
            )

    def _to_mono(self, data: bytes) -> Samples:
        values = np.frombuffer(data, ENCODINGS[self._format.encoding])
        if self._format.encoding in COMPANDED:
            samples = COMPANDED[self._format.encoding][values]
        elif self._format.encoding == "pcm_s16le":
            samples = values.astype(np.float32) / 32768.0
        else:
            # A NaN would poison the resampler's and the detector's memory for good.
            finite = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
            samples = np.clip(finite, -1.0, 1.0).astype(np.float32)
        if self._format.channels > 1:
            samples = samples.reshape(-1, self._format.channels).mean(axis=1, dtype=np.float32)
        return samples

    def _resample(self, samples: Samples, *, last: bool) -> Samples:
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return resampled


class AudioBuffer:
    """The latest part of a session's audio, addressed by sample index in the session."""

    def __init__(self) -> None:
        self._samples: Samples = np.zeros(0, np.float32)
        self._start = 0  # index in the session of the first sample kept
        self._stop = 0  # index in the session behind the last sample
        self._offset = 0  # where ``_start`` is in ``_samples``

    @property
    def end(self) -> int:
        """Index behind the last sample received."""
        return self._stop

    def append(self, samples: Samples) -> None:
        """Add audio at the end."""
        used = self._stop - self._start
        if self._offset + used + len(samples) > len(self._samples):
            grown = np.empty(2 * (used + len(samples)), np.float32)  # amortises the copy
            grown[:used] = self._samples[self._offset : self._offset + used]
            self._samples, self._offset = grown, 0
        at = self._offset + used
        self._samples[at : at + len(samples)] = samples
        self._stop += len(samples)

    def read(self, start: int, end: int) -> Samples:
        """A copy of samples [start, end), all of which must still be kept."""
        if not self._start <= start <= end <= self._stop:
            raise IndexError(f"[{start}, {end}) is outside of [{self._start}, {self._stop})")
        at = self._offset - self._start
        return self._samples[start + at : end + at].copy()

    def forget(self, before: int) -> None:
        """Drop samples below an index; reading them again is an error."""
        before = min(max(before, self._start), self._stop)
        self._offset += before - self._start
        self._start = before
