"""Files and standard input as paced PCM."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clients import AudioError, AudioFormat, audio_duration_s, level_dbfs, stream_file, stream_stdin


def write_tone(
    path: Path, *, seconds: float = 1.0, rate_hz: int = 16_000, channels: int = 1
) -> Path:
    """A 440 Hz tone at half of full scale."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate_hz)
    return path


async def read(path: Path, **options: float) -> list[bytes]:
    """All chunks of a file."""
    return [chunk async for chunk in stream_file(path, **options)]


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (22_050, 1), (96_000, 2)]
)
async def test_any_file_becomes_16_khz_mono(tmp_path: Path, rate_hz: int, channels: int) -> None:
    """Rate and channels are converted; length and loudness stay."""
    path = write_tone(tmp_path / "tone.wav", seconds=2.5, rate_hz=rate_hz, channels=channels)
    chunks = await read(path, pace=0)
    pcm = b"".join(chunks)
    assert abs(len(pcm) // 2 - 40_000) <= 1
    assert {len(chunk) for chunk in chunks[:-1]} == {3200}
    assert level_dbfs(pcm) == pytest.approx(-9.03, abs=0.1)  # 0.5 / sqrt(2)
    assert audio_duration_s(path) == 2.5


async def test_a_file_comes_at_real_time_pace_and_does_not_drift(tmp_path: Path) -> None:
    """A slow consumer delays single chunks, not the end of the file."""
    path = write_tone(tmp_path / "tone.wav", seconds=2.0)
    began = time.monotonic()
    async for _chunk in stream_file(path, pace=2.0):
        await asyncio.sleep(0.03)
    assert 1.0 <= time.monotonic() - began < 1.2


async def test_a_chunk_comes_when_it_would_have_been_recorded(tmp_path: Path) -> None:
    """The first chunk takes as long as it lasts, so that latencies are honest."""
    path = write_tone(tmp_path / "tone.wav", seconds=0.4)
    began = time.monotonic()
    await anext(stream_file(path))
    assert 0.1 <= time.monotonic() - began < 0.2


@pytest.mark.parametrize("content", [None, b"", b"no audio at all"])
async def test_a_file_that_is_no_audio_is_a_clear_error(
    tmp_path: Path, content: bytes | None
) -> None:
    """The error is one line that names the file."""
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=r"x\.wav: no") as caught:
        await read(path)
    assert "\n" not in str(caught.value)


async def test_standard_input_is_passed_on_in_chunks() -> None:
    """Nothing is lost at the end, whatever its length."""
    pcm = bytes(range(256)) * 30 + b"x"
    chunks = [chunk async for chunk in stream_stdin(file=io.BytesIO(pcm))]
    assert b"".join(chunks) == pcm
    assert len(chunks[0]) == 3200


@pytest.mark.parametrize(
    "wrong", [{"encoding": "mp3"}, {"sample_rate_hz": 11_025}, {"channels": 3}]
)
def test_a_format_the_protocol_does_not_know_is_refused(wrong: dict[str, object]) -> None:
    """The error names the key and what is accepted."""
    key = next(iter(wrong))
    with pytest.raises(AudioError, match=f"{key} .* is not one of"):
        AudioFormat(**wrong)  # type: ignore[arg-type]


def test_silence_has_the_lowest_level() -> None:
    """No logarithm of zero, neither for silence nor for nothing."""
    assert level_dbfs(bytes(100)) == level_dbfs(b"") == -96.0
