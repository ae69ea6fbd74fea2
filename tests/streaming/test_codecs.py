"""Compressed audio becomes the same audio; what is damaged or hostile becomes a clear error."""

from __future__ import annotations

import io
import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.errors import AudioError
from a2p_engine.types import Samples
from streaming.codecs import decode_file

KINDS = {
    "wav": ("wav", "pcm_s16le", 16_000),
    "wav, mu-law": ("wav", "pcm_mulaw", 8_000),
    "flac": ("flac", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "ogg, opus": ("ogg", "libopus", 48_000),
    "ogg, flac": ("ogg", "flac", 24_000),
    "webm": ("webm", "libopus", 48_000),
    "m4a": ("ipod", "aac", 44_100),
    "aac": ("adts", "aac", 48_000),
    "aiff": ("aiff", "pcm_s16be", 44_100),
    "caf": ("caf", "pcm_s16le", 48_000),
    "au": ("au", "pcm_s16be", 16_000),
}


def chirp(rate_hz: int, duration_s: float = 3.0) -> Samples:
    """A sweep from 200 Hz to 2 kHz, so that no two moments sound alike."""
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    phase = 2 * np.pi * (200 * time_s + 1800 / (2 * duration_s) * time_s**2)
    return (0.4 * np.sin(phase)).astype(np.float32)


def encode(kind: str, duration_s: float = 3.0, layout: str = "mono", **options: str) -> bytes:
    """A file of the kind with the chirp in it."""
    container, codec, rate_hz = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        planes = np.stack([chirp(rate_hz, duration_s)] * stream.codec_context.channels)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
        output.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def likeness(decoded: Samples, expected: Samples) -> float:
    """Greatest correlation at any shift of up to 0.1 s (codecs add some at the beginning)."""
    size = min(len(decoded), len(expected)) - 1_600
    wanted = expected[:size]
    found = [decoded[at : at + size] for at in range(1_600)]
    return max(float(np.corrcoef(piece, wanted)[0, 1]) for piece in found if len(piece) == size)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_decodes_to_the_same_audio(kind: str) -> None:
    """Length and sound are those of the original, whatever the container, codec and rate."""
    decoded = decode_file(encode(kind))
    assert decoded.dtype == np.float32 and decoded.ndim == 1
    assert abs(len(decoded) - 48_000) < 1_600
    assert likeness(decoded, chirp(16_000)) > 0.95


def test_stereo_is_mixed() -> None:
    """Two equal channels sound like one."""
    decoded = decode_file(encode("ogg, opus", layout="stereo"))
    assert likeness(decoded, chirp(16_000)) > 0.95


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"m4a"}))
def test_a_file_that_was_cut_off_gives_what_there_is(kind: str) -> None:
    """Half of the bytes are about half of the audio."""
    data = encode(kind)
    decoded = decode_file(data[: len(data) // 2])
    assert 0.3 * 48_000 < len(decoded) < 0.7 * 48_000


def test_an_m4a_without_its_index_is_an_error() -> None:
    """The index stands at the end of the file; without it nothing can be found."""
    data = encode("m4a")
    with pytest.raises(AudioError, match="cannot be decoded"):
        decode_file(data[: len(data) // 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_beginning_alone_is_an_error(kind: str) -> None:
    """What is cut off before any audio has none."""
    with pytest.raises(AudioError):
        decode_file(encode(kind)[:24])


@pytest.mark.parametrize(
    "data", [b"", b"a", b"<html>", bytes(1000), b"#EXTM3U\nfile:///etc/passwd"]
)
def test_other_data_is_refused_by_its_first_bytes(data: bytes) -> None:
    """Neither text nor playlists nor zeros ever reach FFmpeg; the error says what is accepted."""
    with pytest.raises(AudioError, match=r"no known container; accepted: WAV.*WebM"):
        decode_file(data)


def test_damage_in_the_middle_costs_little() -> None:
    """A few overwritten bytes leave nearly all of the recording."""
    data = bytearray(encode("ogg, opus"))
    at = len(data) // 2
    data[at : at + 40] = bytes(40)
    assert len(decode_file(bytes(data))) > 0.5 * 48_000


def test_a_recording_may_not_be_longer_than_asked_for() -> None:
    """The limit counts audio, not bytes."""
    data = encode("flac")
    assert len(decode_file(data, max_s=3.1)) == 48_000
    with pytest.raises(AudioError, match="longer than 2 s"):
        decode_file(data, max_s=2)


def test_a_small_file_cannot_become_large_audio() -> None:
    """Hours of silence in few bytes are not decoded any further than the limit."""
    silence = io.BytesIO()
    with av.open(silence, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=8_000, layout="mono")
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 8_000 * 600), np.int16), "s16", "mono")
        quiet.sample_rate = 8_000
        output.mux([*stream.encode(quiet), *stream.encode(None)])
    assert len(silence.getvalue()) < 200 * 600  # 320 times smaller than the audio at 16 kHz
    tracemalloc.start()
    with pytest.raises(AudioError, match="longer than 10 s"):
        decode_file(silence.getvalue(), max_s=10)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 4_000_000


def test_only_audio_of_known_codecs_is_decoded() -> None:
    """Video in an allowed container is not touched."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
        output.mux([*stream.encode(picture), *stream.encode(None)])
    with pytest.raises(AudioError, match="no audio in a codec that is accepted"):
        decode_file(file.getvalue())


def test_nan_in_float_audio_is_silence() -> None:
    """Samples that are no numbers do not get through."""
    values = np.array([0.5, np.nan, np.inf, -7.0] * 400, "<f4").tobytes()
    form = struct.pack(
        "<4sIHHIIHH4sI", b"fmt ", 16, 3, 1, 16_000, 64_000, 4, 32, b"data", len(values)
    )
    wav = b"RIFF" + struct.pack("<I", 4 + len(form) + len(values)) + b"WAVE" + form + values
    np.testing.assert_array_equal(decode_file(wav)[:4], np.array([0.5, 0, 1, -1], np.float32))


ENCODED = {kind: encode(kind, 0.2) for kind in KINDS}


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    at=st.floats(0, 1),
    noise=st.binary(max_size=60),
    keep=st.floats(0, 1),
)
def test_damaged_files_give_audio_or_an_audio_error(
    kind: str, at: float, noise: bytes, keep: float
) -> None:
    """Whatever is overwritten or cut, nothing else comes out, and never much audio."""
    data = bytearray(ENCODED[kind])
    begin = round(at * len(data))
    data[begin : begin + len(noise)] = noise
    try:
        decoded = decode_file(bytes(data[: 1 + round(keep * len(data))]), max_s=60)
    except AudioError:
        return
    assert len(decoded) and np.isfinite(decoded).all()
