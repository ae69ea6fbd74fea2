"""Recordings for uploads, as files in memory."""

from __future__ import annotations

import io
import wave

import av

from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from tests.streaming.signals import pcm

PACKED = {
    "mp3": ("mp3", "libmp3lame", 44_100),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "m4a": ("ipod", "aac", 44_100),
    "mp4": ("mp4", "aac", 48_000),
    "flac": ("flac", "flac", 16_000),
}


def wav(*parts: Samples, channels: int = 1, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """A WAV file of the parts in a row."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm(*parts))
    return data.getvalue()


def opus_packets(audio: Samples) -> list[bytes]:
    """Audio (mono, 16 kHz) as packets of 20 ms."""
    with av.open(io.BytesIO(packed("ogg", audio))) as file:
        return [bytes(packet) for packet in file.demux() if packet.size]


def packed(form: str, audio: Samples) -> bytes:
    """Audio (mono, 16 kHz) as a file of a compressed format."""
    container, codec, rate_hz = PACKED[form]
    data = io.BytesIO()
    with av.open(data, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio[None], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        resampler = av.AudioResampler(stream.format, "mono", rate_hz, stream.frame_size or 1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return data.getvalue()
