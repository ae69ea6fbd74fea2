"""Compressed audio to the engine's: float32, mono, 16 kHz. Files, growing streams, Opus packets.

FFmpeg does the work (through PyAV). What comes here is hostile until proven otherwise, so the kind
of file is told from its first bytes and never guessed: FFmpeg also knows playlists and scripts that
name further files to read. Only audio decoders are let loose on it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from a2p_engine.errors import AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

MAX_FILE_S = 4 * 3600.0  # an hour of decoded audio is 230 MB
HEAD_BYTES = 12  # of a file or stream, which tell its kind
CONTAINERS = "WAV, FLAC, MP3, Ogg, WebM or Matroska, MP4 or M4A, AAC (ADTS), AIFF, AU, CAF"

# (offset, bytes there, FFmpeg's name of the demuxer)
_SIGNATURES = (
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"fLaC", "flac"),
    (8, b"WAVE", "wav"),
    (4, b"ftyp", "mp4"),
    (0, b"ID3", "mp3"),
    (8, b"AIFF", "aiff"),
    (8, b"AIFC", "aiff"),
    (0, b".snd", "au"),
    (0, b"caff", "caf"),
)
_DECODERS = {
    *("opus", "vorbis", "flac", "mp3", "mp3float", "mp2", "mp2float", "aac", "alac", "speex"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "gsm", "gsm_ms", "wavpack"),
    *(name for name in av.codecs_available if name.startswith("pcm_")),
}
_OPTIONS = {
    "codec_whitelist": ",".join(sorted(_DECODERS)),
    "protocol_whitelist": "none",  # nothing that a file may name is opened
    "analyzeduration": "1",  # a live stream would wait for it
}


def decode_file(data: bytes, *, max_s: float = MAX_FILE_S) -> Samples:
    """All audio of a file in one of ``CONTAINERS``, as float32 [n] at 16 kHz.

    What is damaged is left out: a file that was cut off gives what there is of it.

    Args:
        data: the whole file.
        max_s: longest recording, in seconds of audio; no more is ever decoded.

    Raises:
        AudioError: it is no such file, nothing in it can be decoded, or it is too long.
    """
    pieces, decoded = [], 0
    for piece in _decode(io.BytesIO(data), container_of(data[:HEAD_BYTES])):
        pieces.append(piece)
        decoded += len(piece)
        if decoded > max_s * SAMPLE_RATE_HZ:
            raise AudioError(
                f"the recording is longer than {max_s:g} s, which is the most accepted"
            )
    if not decoded:
        raise AudioError("the file holds no audio that can be decoded")
    return np.concatenate(pieces)


def container_of(head: bytes) -> str:
    """FFmpeg's name for what begins with these ``HEAD_BYTES``.

    Raises:
        AudioError: it is nothing that can be decoded.
    """
    for offset, signature, name in _SIGNATURES:
        if head[offset:].startswith(signature):
            return name
    # MPEG audio begins with 11 set bits; layer 0 stands for AAC (ISO 11172-3, 13818-7).
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "aac"
    raise AudioError(f"the audio is in no known container; accepted: {CONTAINERS}")


def _decode(source: Any, container: str) -> Iterator[Samples]:
    """Pieces of the first audio stream in what ``source`` reads."""
    try:
        with av.open(source, format=container, options=_OPTIONS, metadata_errors="ignore") as file:
            stream = next(iter(file.streams.audio), None)
            if stream is None or stream.codec_context.name not in _DECODERS:
                raise AudioError("the file has no audio in a codec that is accepted")
            convert = _Converter()
            for packet in file.demux(stream):
                for frame in _frames(packet.decode):
                    yield from convert(frame)
            yield from convert(None)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"the audio cannot be decoded: {_reason(error)}") from error


class _Converter:
    """Frames of any kind to float32 [n], mono, 16 kHz; the kind may change on the way."""

    def __init__(self) -> None:
        self._kind: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None

    def __call__(self, frame: AudioFrame | None) -> Iterator[Samples]:
        """What a frame completes; None gives what is left at the end."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate) if frame else None
        if kind != self._kind:
            yield from self._resample(None)
            self._kind, self._resampler = kind, AudioResampler("flt", "mono", SAMPLE_RATE_HZ)
        if frame is not None:
            yield from self._resample(frame)

    def _resample(self, frame: AudioFrame | None) -> Iterator[Samples]:
        if self._resampler is None:
            return
        for converted in self._resampler.resample(frame):
            # A NaN would poison the detector's memory for good.
            finite = np.nan_to_num(converted.to_ndarray()[0], nan=0.0, posinf=1.0, neginf=-1.0)
            yield np.clip(finite, -1.0, 1.0).astype(np.float32, copy=False)


def _frames(decode: Callable[[], list[AudioFrame]]) -> list[AudioFrame]:
    """Frames of a packet; a damaged one has none and costs nothing else."""
    try:
        return decode()
    except av.InvalidDataError:
        return []


def _reason(error: Exception) -> str:
    """FFmpeg's words without its numbers and function names."""
    return getattr(error, "strerror", None) or str(error)
