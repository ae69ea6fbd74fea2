"""The microphone as an asynchronous source of PCM, through PortAudio.

PortAudio and ``sounddevice`` are looked for only when a function is called, so that importing this
module works on a machine without sound.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from clients.audio import SAMPLE_RATES_HZ, level_dbfs
from clients.errors import MicrophoneError

logger = logging.getLogger(__name__)

BLOCK_MS = 50
# The consumer may be away this long (a reconnect, a slow terminal) before audio is dropped.
QUEUE_S = 10

NO_PORTAUDIO = (
    "the microphone needs PortAudio, which was not found: on Debian and Ubuntu run "
    "'apt install libportaudio2', on Fedora 'dnf install portaudio', then "
    "'pip install sounddevice'"
)
NO_DEVICE = "no microphone was found: plug one in or allow access to it, or stream a file instead"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputDevice:
    """A device that can record.

    Attributes:
        index: PortAudio's number of it, accepted by ``microphone``.
        name: its name; a part of it is accepted by ``microphone`` too.
        channels: most channels it records.
        default_rate_hz: its own sample rate.
        is_default: whether it is taken when none is named.
    """

    index: int
    name: str
    channels: int
    default_rate_hz: int
    is_default: bool


def input_devices() -> list[InputDevice]:
    """All devices that can record.

    Raises:
        MicrophoneError: there is no PortAudio, or no such device.
    """
    sounddevice = _sounddevice()
    try:
        default = sounddevice.default.device[0]
        devices = [
            InputDevice(
                index=index,
                name=str(item["name"]),
                channels=int(item["max_input_channels"]),
                default_rate_hz=round(item["default_samplerate"]),
                is_default=index == default,
            )
            for index, item in enumerate(sounddevice.query_devices())
            if item["max_input_channels"] > 0
        ]
    except sounddevice.PortAudioError as error:
        raise MicrophoneError(f"sound devices cannot be listed: {error}") from error
    if not devices:
        raise MicrophoneError(NO_DEVICE)
    return devices


def device_table(devices: list[InputDevice]) -> Table:
    """The devices as a table for a terminal."""
    table = Table("", "#", "microphone", "channels", "own rate", box=None, header_style="dim")
    for item in devices:
        mark = "●" if item.is_default else ""
        rate = f"{item.default_rate_hz} Hz"
        table.add_row(mark, str(item.index), item.name, str(item.channels), rate)
    return table


def supported_rate_hz(device: int | str | None = None) -> int:
    """The lowest rate from 16 kHz on that both the device and the protocol know.

    Raises:
        MicrophoneError: there is no PortAudio, no such device, or no common rate.
    """
    sounddevice, device = _sounddevice(), _chosen(device)
    for rate_hz in (rate for rate in SAMPLE_RATES_HZ if rate >= 16_000):
        try:
            sounddevice.check_input_settings(
                device=device, channels=1, dtype="int16", samplerate=rate_hz
            )
        except (sounddevice.PortAudioError, ValueError):
            continue
        return rate_hz
    raise MicrophoneError(f"microphone {_name(device)} takes none of the rates {SAMPLE_RATES_HZ}")


async def microphone(
    device: int | str | None = None, sample_rate_hz: int = 16_000
) -> AsyncIterator[bytes]:
    """Yield what the microphone hears, mono ``pcm_s16le`` in blocks of 50 ms, without end.

    Args:
        device: number or part of the name; None takes the default one.
        sample_rate_hz: a rate the device knows, see ``supported_rate_hz``.

    Raises:
        MicrophoneError: there is no PortAudio, no microphone, or it cannot be opened.
    """
    sounddevice, chosen = _sounddevice(), _chosen(device)
    queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_S * 1000 // BLOCK_MS)
    try:
        stream = sounddevice.RawInputStream(
            samplerate=sample_rate_hz,
            blocksize=sample_rate_hz * BLOCK_MS // 1000,
            device=chosen,
            channels=1,
            dtype="int16",
            callback=_into(queue, asyncio.get_running_loop()),
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MicrophoneError(f"microphone {_name(chosen)} cannot be opened: {error}") from error
    with stream:
        while True:
            yield await queue.get()


async def metered(
    source: AsyncIterable[bytes], show: Callable[[float], None]
) -> AsyncIterator[bytes]:
    """Pass ``pcm_s16le`` audio on, telling ``show`` the level of each chunk in dBFS."""
    async for chunk in source:
        show(level_dbfs(chunk))
        yield chunk


def _into(
    queue: asyncio.Queue[bytes], loop: asyncio.AbstractEventLoop
) -> Callable[[Any, int, Any, Any], None]:
    """PortAudio's callback: it runs in a thread of its own and must not wait."""

    def put(block: bytes) -> None:
        if queue.full():
            queue.get_nowait()
            logger.warning("audio of the microphone was dropped: the consumer is too slow")
        queue.put_nowait(block)

    def callback(data: Any, frames: int, time: Any, status: Any) -> None:
        if status:
            logger.warning("microphone: %s", status)
        loop.call_soon_threadsafe(put, bytes(data))

    return callback


def _sounddevice() -> Any:
    try:
        return importlib.import_module("sounddevice")
    except (OSError, ImportError) as error:
        raise MicrophoneError(NO_PORTAUDIO) from error


def _chosen(device: int | str | None) -> int:
    """Number of the device meant by a number, a part of a name, or nothing."""
    devices = input_devices()
    if device is None:
        return next((item.index for item in devices if item.is_default), devices[0].index)
    wanted = str(device).casefold()
    exact = [item.index for item in devices if wanted == str(item.index)]
    named = [item.index for item in devices if wanted in item.name.casefold()]
    found = exact or named
    if not found:
        names = ", ".join(f"{item.index} {item.name}" for item in devices)
        raise MicrophoneError(f"no microphone {device!r}; there are: {names}")
    return found[0]


def _name(device: int) -> str:
    return next((item.name for item in input_devices() if item.index == device), str(device))
