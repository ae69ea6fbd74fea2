"""PCM off the wire becomes the same audio, however it was cut and whatever is in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.types import Samples
from streaming.audio.pcm import (
    SAMPLE_RATES_HZ,
    AudioBuffer,
    AudioDecoder,
    AudioFormat,
    Encoding,
)
from streaming.errors import TruncatedAudio


def decode(audio_format: AudioFormat, *pieces: bytes) -> Samples:
    """Everything a stream of pieces gives."""
    decoder = AudioDecoder(audio_format)
    decoded = [decoder.decode(piece) for piece in pieces]
    return np.concatenate([*decoded, decoder.finish()])


def test_s16le_is_scaled_to_one() -> None:
    """Full scale is -1 to just under 1."""
    decoded = decode(AudioFormat(), np.array([-32768, 0, 16384], "<i2").tobytes())
    np.testing.assert_array_equal(decoded, np.array([-1.0, 0.0, 0.5], np.float32))
    assert decoded.dtype == np.float32


def test_float_extremes_are_tamed() -> None:
    """NaN is silence; infinities and values out of range are full scale."""
    values = np.array([0.25, np.nan, np.inf, -np.inf, 7.0, -1e30], "<f4")
    decoded = decode(AudioFormat(encoding="pcm_f32le"), values.tobytes())
    np.testing.assert_array_equal(decoded, np.array([0.25, 0, 1, -1, 1, -1], np.float32))


def test_a_nan_does_not_poison_the_resampler() -> None:
    """Audio after a NaN is finite at any rate."""
    values = np.zeros(4800, "<f4")
    values[7] = np.nan
    decoded = decode(AudioFormat(encoding="pcm_f32le", sample_rate_hz=48_000), values.tobytes())
    assert np.isfinite(decoded).all()


def test_stereo_is_averaged() -> None:
    """Both channels count half."""
    data = np.array([[16384, 0], [16384, -16384]], "<i2").tobytes()
    np.testing.assert_array_equal(decode(AudioFormat(channels=2), data), np.float32([0.25, 0.0]))


def test_more_channels_are_averaged_too() -> None:
    """Each counts as much as the others."""
    data = np.array([[16384, 8192, 0, 0], [0, 0, 0, -32768]], "<i2").tobytes()
    np.testing.assert_array_equal(
        decode(AudioFormat(channels=4), data), np.float32([0.1875, -0.25])
    )


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_every_rate_keeps_pitch_and_length(rate_hz: int) -> None:
    """A second of a 440 Hz tone is a second of a 440 Hz tone at 16 kHz."""
    time_s = np.arange(rate_hz) / rate_hz
    data = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype("<f4").tobytes()
    decoded = decode(AudioFormat(encoding="pcm_f32le", sample_rate_hz=rate_hz), data)
    assert abs(len(decoded) - 16_000) <= 1
    spectrum = np.abs(np.fft.rfft(decoded[:16_000]))
    assert int(spectrum.argmax()) == 440


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["pcm_s16le", "pcm_f32le"]),
    st.sampled_from(SAMPLE_RATES_HZ),
    st.sampled_from([1, 2]),
    st.lists(st.integers(0, 4000), min_size=1, max_size=10),
)
def test_cuts_anywhere_leave_no_trace(
    encoding: Encoding, rate_hz: int, channels: int, cuts: list[int]
) -> None:
    """Pieces of any size, inside samples too, decode to the same audio as the whole."""
    audio_format = AudioFormat(encoding=encoding, sample_rate_hz=rate_hz, channels=channels)
    data = np.random.default_rng(0).integers(0, 256, 4000 * audio_format.frame_bytes, np.uint8)
    whole = data.tobytes()
    edges = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    np.testing.assert_array_equal(decode(audio_format, *pieces), decode(audio_format, whole))


def test_an_incomplete_sample_at_the_end_is_told() -> None:
    """Left-over bytes raise with their number; a complete stream does not."""
    decoder = AudioDecoder(AudioFormat(channels=2))
    decoder.decode(b"\0" * 7)
    with pytest.raises(TruncatedAudio, match="3 of 4 bytes"):
        decoder.check_complete()
    decoder.decode(b"\0")
    decoder.check_complete()


@given(st.lists(st.integers(0, 300), max_size=30), st.lists(st.integers(0, 300), max_size=30))
def test_the_buffer_keeps_what_is_not_forgotten(sizes: list[int], forgets: list[int]) -> None:
    """Reads by absolute index give the samples appended, after any forgetting."""
    buffer, whole, kept = AudioBuffer(), np.zeros(0, np.float32), 0
    for index, size in enumerate(sizes):
        whole = np.concatenate([whole, np.arange(len(whole), len(whole) + size, dtype=np.float32)])
        buffer.append(whole[len(whole) - size :])
        kept = min(len(whole), kept + (forgets[index] if index < len(forgets) else 0))
        buffer.forget(kept)
        assert buffer.end == len(whole)
        np.testing.assert_array_equal(buffer.read(kept, buffer.end), whole[kept:])
        if kept:
            with pytest.raises(IndexError):
                buffer.read(kept - 1, buffer.end)


def test_the_buffer_does_not_grow_with_the_stream() -> None:
    """An hour of audio of which a second is kept needs the memory of seconds."""
    buffer, second = AudioBuffer(), np.ones(16_000, np.float32)
    for index in range(600):
        buffer.append(second)
        buffer.forget(index * 16_000)
    assert len(buffer._samples) <= 6 * 16_000
