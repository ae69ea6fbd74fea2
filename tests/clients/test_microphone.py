"""The microphone, where there is none: what users are told, and what the callback does."""

from __future__ import annotations

import asyncio
import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from clients import MicrophoneError, level_dbfs
from clients import microphone as module
from clients.microphone import device_table, input_devices, metered, microphone, supported_rate_hz


class PortAudioError(Exception):
    """As sounddevice has it."""


class Stream:
    """Records nothing by itself; a test calls its callback."""

    opened: Stream

    def __init__(self, **settings: Any) -> None:
        if settings["samplerate"] != 48_000:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.settings = settings
        self.closed = False
        Stream.opened = self

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def fake_sounddevice(*devices: dict[str, Any]) -> SimpleNamespace:
    """PortAudio with these devices; the only rate is 48 kHz."""

    def check(*, samplerate: int, **_: Any) -> None:
        if samplerate != 48_000:
            raise PortAudioError("Invalid sample rate")

    return SimpleNamespace(
        PortAudioError=PortAudioError,
        RawInputStream=Stream,
        check_input_settings=check,
        default=SimpleNamespace(device=[1, 0]),
        query_devices=lambda: list(devices),
    )


SPEAKER = {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 48_000.0}
HEADSET = {"name": "USB Headset", "max_input_channels": 1, "default_samplerate": 48_000.0}


@pytest.fixture
def headset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a loudspeaker and a headset."""
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(SPEAKER, HEADSET))


async def test_without_portaudio_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A missing library makes sounddevice raise OSError; users see one line."""

    def missing(name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MicrophoneError, match="apt install libportaudio2") as caught:
        await anext(microphone())
    assert "\n" not in str(caught.value)


async def test_on_this_machine_the_answer_is_a_list_or_one_clear_line() -> None:
    """The real sounddevice, with or without PortAudio and devices, never shows a traceback."""
    try:
        assert input_devices()
    except MicrophoneError as error:
        assert str(error) in (module.NO_PORTAUDIO, module.NO_DEVICE)


async def test_without_a_microphone_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loudspeaker is no microphone."""
    monkeypatch.setitem(sys.modules, "sounddevice", fake_sounddevice(SPEAKER))
    with pytest.raises(MicrophoneError, match="no microphone was found"):
        await anext(microphone())


@pytest.mark.usefixtures("headset")
def test_devices_are_listed_with_the_default_marked() -> None:
    """Only what records is in the list."""
    (device,) = input_devices()
    assert (device.index, device.name, device.is_default) == (1, "USB Headset", True)
    assert device_table([device]).row_count == 1


@pytest.mark.usefixtures("headset")
def test_the_rate_is_one_the_device_and_the_protocol_know() -> None:
    """A device that knows 48 kHz only is used at 48 kHz."""
    assert supported_rate_hz("headset") == 48_000


@pytest.mark.usefixtures("headset")
async def test_an_unknown_device_is_answered_with_those_there_are() -> None:
    """The names help to choose."""
    with pytest.raises(MicrophoneError, match="no microphone 'webcam'; there are: 1 USB Headset"):
        await anext(microphone("webcam"))


@pytest.mark.usefixtures("headset")
async def test_a_device_that_cannot_be_opened_is_named() -> None:
    """PortAudio's reason stands behind the name."""
    with pytest.raises(MicrophoneError, match="USB Headset cannot be opened: Invalid sample rate"):
        await anext(microphone(sample_rate_hz=16_000))


@pytest.mark.usefixtures("headset")
async def test_blocks_come_through_and_the_oldest_go_when_nobody_takes_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The queue is bounded: after ten seconds without a consumer the newest audio is kept."""
    source = microphone(1, sample_rate_hz=48_000)
    first = asyncio.create_task(anext(source))
    await asyncio.sleep(0)
    callback = Stream.opened.settings["callback"]
    bound = module.QUEUE_S * 1000 // module.BLOCK_MS
    await asyncio.to_thread(callback, b"\0\1", 1, None, None)
    assert await first == b"\0\1"
    for number in range(bound + 3):
        callback(number.to_bytes(2, "little"), 1, None, None)
    await asyncio.sleep(0)
    assert await anext(source) == (3).to_bytes(2, "little")
    assert "dropped" in caplog.text
    await source.aclose()  # type: ignore[attr-defined]
    assert Stream.opened.closed


async def test_metered_passes_audio_on_and_tells_its_level() -> None:
    """The meter sees each chunk once, unchanged."""

    async def source() -> Any:
        yield b"\xff\x7f" * 10

    levels: list[float] = []
    chunks = [chunk async for chunk in metered(source(), levels.append)]
    assert chunks == [b"\xff\x7f" * 10]
    assert levels == [level_dbfs(chunks[0])]
