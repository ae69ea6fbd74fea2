"""Recordings in the formats that people have, decoded bit by bit with FFmpeg (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
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
OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"}
NAMES = "wav, flac, mp3, m4a, mp4, mpeg, ogg, webm and others"


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
    for block in _blocks(data):
        heard += len(block)
        if heard > samples(max_s):
            raise AudioError(f"the recording is longer than {max_s:g} s")
        yield block
    if not heard:
        raise AudioError("the file holds no audio")


def _blocks(data: bytes) -> Iterator[Samples]:
    try:
        with av.open(io.BytesIO(data), metadata_errors="ignore", container_options=OPTIONS) as file:
            if not file.streams.audio:
                raise AudioError("the file holds no audio")
            resampler = AudioResampler("fltp", None, SAMPLE_RATE_HZ, BLOCK_SAMPLES)
            for frame in _frames(file):
                yield from map(_samples, resampler.resample(frame))
            yield from map(_samples, resampler.resample(None))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"the file cannot be read as audio; accepted: {NAMES}") from error


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
            frame.pts = None  # gaps in a file's clock are not audio
            yield frame


def _samples(frame: AudioFrame) -> Samples:
    # A NaN would poison the detector's memory for good. FFmpeg would add channels up, and clip.
    finite = np.nan_to_num(frame.to_ndarray(), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(finite.mean(axis=0), -1.0, 1.0).astype(np.float32, copy=False)
