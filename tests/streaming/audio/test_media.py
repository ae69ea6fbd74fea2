"""Recordings are decoded whatever they are packed in, and nothing but recordings is."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from a2p_engine.errors import AudioError
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from streaming.audio.media import BLOCK_SAMPLES, decode
from tests.streaming.recordings import PACKED, packed, wav
from tests.streaming.signals import pcm, silence, tone


def whole(data: bytes) -> Samples:
    """The recording in one piece."""
    return np.concatenate(list(decode(data, 60)))


def power(audio: Samples) -> list[float]:
    """Root mean square of each quarter second."""
    quarters = audio[: len(audio) // 4000 * 4000].reshape(-1, 4000)
    return [float(value) for value in np.sqrt((quarters**2).mean(axis=1))]


@pytest.mark.parametrize("form", PACKED)
def test_formats_that_people_have(form: str) -> None:
    """Silence, a tone and silence come out of every format, where they were and as loud."""
    audio = whole(packed(form, np.concatenate([silence(1), tone(1), silence(1)])))
    assert len(audio) / SAMPLE_RATE_HZ == pytest.approx(3, abs=0.1)
    loud = power(audio)
    assert loud[5:7] == pytest.approx([0.3 / 2**0.5] * 2, rel=0.1)
    assert max(loud[:3] + loud[9:]) < 0.02


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 48_000])
def test_wav_of_any_rate(rate_hz: int) -> None:
    """Samples are exact where nothing has to be resampled, else the tone keeps its pitch."""
    time_s = np.arange(rate_hz) / rate_hz
    audio = whole(wav(0.3 * np.sin(2 * np.pi * 440 * time_s), rate_hz=rate_hz))
    assert len(audio) == pytest.approx(SAMPLE_RATE_HZ, abs=40)
    assert np.argmax(np.abs(np.fft.rfft(audio, SAMPLE_RATE_HZ))) == pytest.approx(440, abs=1)
    if rate_hz == SAMPLE_RATE_HZ:
        assert (audio * 32768).round().astype(int)[:99].tolist() == (
            np.frombuffer(pcm(0.3 * np.sin(2 * np.pi * 440 * time_s)), "<i2")[:99].tolist()
        )


def test_two_channels_become_one() -> None:
    """A voice in one channel only is heard at half its level."""
    voice = tone(1)
    stereo = np.stack([voice, np.zeros_like(voice)], axis=1).ravel()
    assert power(whole(wav(stereo, channels=2))) == pytest.approx([0.15 / 2**0.5] * 4, rel=0.01)


def test_blocks_are_of_half_a_second() -> None:
    """Only the last one is shorter."""
    sizes = [len(block) for block in decode(wav(tone(1.7)), 60)]
    assert sizes == [BLOCK_SAMPLES, BLOCK_SAMPLES, BLOCK_SAMPLES, round(0.2 * SAMPLE_RATE_HZ)]


def test_a_recording_that_is_cut_off_is_heard_to_the_cut() -> None:
    """As a browser leaves it whose tab was closed."""
    data = packed("webm", tone(3))
    assert 1 < len(whole(data[: len(data) // 2])) / SAMPLE_RATE_HZ < 2


def test_a_recording_that_is_too_long_is_refused_while_it_is_decoded() -> None:
    """However small its file is."""
    blocks = decode(packed("ogg", silence(20)), 5)
    with pytest.raises(AudioError, match="longer than 5 s"):
        for number, _ in enumerate(blocks):
            assert number < 10
    assert list(decode(wav(tone(1)), 1))


@given(st.binary(max_size=300))
@example(b"")
@example(b"RIFF\x24\x00\x00\x00WAVEfmt ")
@example(wav(silence(0)))
@example(wav(tone(0.1))[:60] + bytes(50))
def test_anything_else_is_an_audio_error(data: bytes) -> None:
    """Whatever the bytes are: audio, or the one error that says so."""
    try:
        blocks = list(decode(data, 60))
    except AudioError as error:
        assert "audio" in str(error)
    else:
        assert all(np.isfinite(block).all() for block in blocks)


def test_a_list_of_files_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg would read what is named in it, from the server's disk or network."""
    (tmp_path / "secret.wav").write_bytes(wav(tone(1)))
    monkeypatch.chdir(tmp_path)
    lists = {
        "concat": b"ffconcat version 1.0\nfile secret.wav\n",
        "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
    }
    with av.open(io.BytesIO(lists["concat"])) as unguarded:  # what is to be kept from happening
        assert unguarded.streams.audio
    for data in lists.values():
        with pytest.raises(AudioError, match="cannot be read as audio; accepted: wav, flac"):
            whole(data)


def test_values_that_are_no_numbers_do_no_harm() -> None:
    """Floating-point files can hold them."""
    header = wav(silence(0))[:20]
    body = np.array([0.5, np.nan, np.inf, -7.0] * 400, "<f4").tobytes()
    form = b"\x03\x00\x01\x00" + (16_000).to_bytes(4, "little") + (64_000).to_bytes(4, "little")
    data = header + form + b"\x04\x00\x20\x00data" + len(body).to_bytes(4, "little") + body
    audio = whole(data)
    assert audio[:4].tolist() == [0.5, 0.0, 1.0, -1.0]
