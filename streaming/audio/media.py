"""Recordings in the formats that people have, decoded bit by bit with FFmpeg (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from a2p_engine.errors import AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from streaming.segmenter import samples

BLOCK_SAMPLES = samples(0.5)
# FFmpeg also reads play lists, which make it open other files and addresses: containers only.
CONTAINERS = (
    "aac", "aiff", "amr", "asf", "au", "caf", "flac", "matroska", "mov", "mp3", "mpeg", "mpegts",
    "ogg", "w64", "wav",
)  # fmt: skip
CODECS = {
    "aac", "ac3", "alac", "eac3", "flac", "gsm", "gsm_ms", "mp2", "mp2float", "mp3", "mp3float",
    "opus", "speex", "vorbis", "wavpack", "wmav1", "wmav2",
    *(name for name in av.codecs_available if name.startswith(("adpcm_", "amr", "pcm_"))),
}  # fmt: skip
OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    "protocol_whitelist": "none",
    "codec_whitelist": ",".join(sorted(CODECS)),  # a picture in it is not even looked at
}
MAX_CHANNELS = 8  # of more, PyAV reads planes that are not there
NAMES = "wav, flac, mp3, m4a, mp4, mpeg, ogg, webm and others"


class Readable(Protocol):
    """What can be read from the beginning."""

    def read(self, size: int = ..., /) -> bytes: ...  # noqa: D102


def decode(data: bytes, max_s: float) -> Iterator[Samples]:
    """Decode the first audio track: blocks of half a second, float32 [n], mono, 16 kHz.

    Nothing longer than a block is held beside ``data``, however well it was packed. What is damaged
    is left out, as players do.

    Args:
        data: the file.
        max_s: longest recording.

    Raises:
        AudioError: it is no recording, holds no audio or is too long; not always at once.
    """
    heard = 0
    for block in pieces(io.BytesIO(data), piece_samples=BLOCK_SAMPLES):
        heard += len(block)
        if heard > samples(max_s):
            raise AudioError(f"the recording is longer than {max_s:g} s")
        yield block
    if not heard:
        raise AudioError("the file holds no audio")


def pieces(
    source: Readable,
    *,
    piece_samples: int | None = None,
    container: str | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Samples]:
    """Audio of the first track as it is decoded, float32 [n], mono, 16 kHz.

    Args:
        source: where to read from; what can only be read is not searched.
        piece_samples: length of each piece but the last; None as they come.
        container: FFmpeg's name of the demuxer; None finds it out.
        options: further ones of FFmpeg for the container.

    Raises:
        AudioError: it is no recording or holds no audio track.
    """
    chosen = {**OPTIONS, **options}
    try:
        with av.open(
            source, "r", container, metadata_errors="ignore", container_options=chosen
        ) as file:
            if not any(_decodable(stream) for stream in file.streams.audio[:1]):
                raise AudioError("the file holds no audio")
            resampler = AudioResampler("flt", None, SAMPLE_RATE_HZ, piece_samples)
            for frame in _frames(file):
                yield from map(to_samples, resampler.resample(frame))
            yield from map(to_samples, resampler.resample(None))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"the file cannot be read as audio; accepted: {NAMES}") from error


def _decodable(stream: AudioStream) -> bool:
    codec: AudioCodecContext | None = stream.codec_context  # None of a codec that nobody knows
    return codec is not None and codec.name in CODECS


def _frames(file: InputContainer) -> Iterator[AudioFrame]:
    stream = file.streams.audio[0]
    stream.codec_context.thread_count = 1
    for packet in file.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        for frame in frames:
            assert isinstance(frame, AudioFrame)  # the stream is one of audio
            if frame.layout.nb_channels > MAX_CHANNELS:
                raise AudioError(f"the audio has over {MAX_CHANNELS} channels")
            frame.pts = None  # gaps in a file's clock are not audio
            yield frame


def to_samples(frame: AudioFrame) -> Samples:
    """The mean of a frame's channels, which are packed float32."""
    # A NaN would poison the detector's memory for good. FFmpeg would add channels up, and clip.
    values = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    finite = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
    mono: Samples = np.clip(finite.mean(axis=1), -1.0, 1.0).astype(np.float32, copy=False)
    return mono
