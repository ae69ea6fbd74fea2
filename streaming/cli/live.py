"""``a2p serve``, ``a2p stream``, ``a2p mic`` and ``a2p demo``: what runs while someone speaks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streaming.cli import common

if TYPE_CHECKING:
    from clients import AudioFormat, CaptionClient
    from clients.events import Event
    from streaming.server import Running

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        "-u",
        help="Address of a running `a2p serve`; its API key is read from A2P_API_KEY.",
    ),
]
GlossaryOption = Annotated[
    str | None,
    typer.Option(
        "--glossary", "-g", help="A file, or a name the server knows.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")]

DEFAULT_URL = "ws://127.0.0.1:8765/ws"
API_KEY_VARIABLE = "A2P_API_KEY"  # not an option, which every user of the machine could read
# A larger glossary follows the first message as an edit, which the client splits.
START_BYTES = 256 * 1024


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(serve)
    app.command()(stream)
    app.command()(mic)
    app.command()(demo)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="0 takes a free one.", show_default="8765")
    ] = None,
    glossary: Annotated[
        list[str] | None,
        typer.Option(
            "--glossary",
            "-g",
            metavar="[NAME=]FILE",
            help="Offer a glossary; the first is used by clients that name none. Repeatable.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a table [server].", show_default=False)
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(help="Most clients at the same time.", show_default="32")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Engine steps at the same time.", show_default="2")
    ] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Serve over TLS.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="The certificate's key.")] = None,
    keys_file: Annotated[
        Path | None, typer.Option(help="Ask clients for an API key, see `a2p keys`.")
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Publish captions to mqtt[s]://[user@]host[:port]; the password is read from "
            "A2P_MQTT_PASSWORD.",
        ),
    ] = None,
    mqtt_node: Annotated[
        str | None, typer.Option(help="Name of this server in topics.", show_default="host name")
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(help="Port for metrics and administration alone.", show_default="none"),
    ] = None,
    vosk_port: Annotated[
        int | None,
        typer.Option(
            help="Further port on which every path speaks Vosk's protocol, such as 2700.",
            show_default="none",
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Of the log.", show_default="text")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="Least severe records that are logged.", show_default="info"),
    ] = None,
    speech_llm: Annotated[
        str | None,
        typer.Option(help="Model that writes the captions.", show_default="whisper-base"),
    ] = None,
    retriever: common.RetrieverOption = None,
    device: Annotated[
        common.Device | None, typer.Option(help="Where the models run.", show_default="auto")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell whether the server would start.")
    ] = False,
) -> None:
    """Serve captions: websocket clients, and a captions page for browsers.

    Settings can also come from the file and from A2P_* variables; see docs/operations.md.
    """
    from streaming.settings import ServerSettings, named_glossary

    named = dict(named_glossary(text) for text in glossary or [])
    load = partial(
        ServerSettings.load,
        config,
        host=host,
        port=port,
        glossaries=named or None,
        default_glossary=next(iter(named), None),
        max_sessions=max_sessions,
        workers=workers,
        mqtt=mqtt,
        mqtt_node=mqtt_node,
        admin_port=admin_port,
        vosk_port=vosk_port,
        log_format=log_format,
        log_level=log_level,
        speech_llm=speech_llm,
        retriever=retriever,
        device=device,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        keys_file=keys_file,
    )
    if check:
        from streaming.cli import checking

        raise typer.Exit(checking.check(load))
    from streaming.operations import logs, memory

    memory.share_heaps()
    settings = load()
    debugging = logging.getLogger().level == logging.DEBUG  # a2p --debug
    logs.configure(settings.log_format, "debug" if debugging else settings.log_level)
    publishers = [_mqtt_publisher(settings.mqtt, settings.mqtt_node)] if settings.mqtt else []
    engine = common.load_engine(
        settings.speech_llm,
        settings.retriever,
        settings.device,
        settings.workers,
        settings.engine.get(settings.speech_llm),
    )

    from streaming import server

    server.serve(settings, engine, publishers, lambda running: print(_ready(running), flush=True))


def stream(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="'-' is raw PCM on stdin.")],
    url: UrlOption = DEFAULT_URL,
    glossary: GlossaryOption = None,
    language: common.LanguageOption = "en",
    task: common.TaskOption = "transcribe",
    target: common.TargetOption = "en",
    source_text: common.SourceTextOption = False,
    threshold: common.ThresholdOption = "balanced",
    pace: Annotated[
        float, typer.Option(min=0, help="1 is real time, 0 as fast as the server takes it.")
    ] = 1.0,
    encoding: Annotated[
        Literal["pcm_s16le", "pcm_f32le"], typer.Option(help="Of '-'.")
    ] = "pcm_s16le",
    rate: Annotated[int, typer.Option(help="Sample rate of '-' in Hz.")] = 16_000,
    channels: Annotated[int, typer.Option(help="Of '-'.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Send a recording, or audio from a pipe, to a server and show the captions."""
    from clients import AudioFormat, stream_file, stream_stdin

    if file == "-":
        audio = AudioFormat(encoding=encoding, sample_rate_hz=rate, channels=channels)
        source = stream_stdin(audio)
    else:
        audio, source = AudioFormat(), stream_file(file, pace)
        _require_audio(file)
    options = _options(task, threshold, target, source_text)
    client = _client(url, audio, glossary, language, task, options)
    asyncio.run(_caption(client, source, as_json))


def mic(
    url: UrlOption = DEFAULT_URL,
    glossary: GlossaryOption = None,
    language: common.LanguageOption = "en",
    task: common.TaskOption = "transcribe",
    target: common.TargetOption = "en",
    source_text: common.SourceTextOption = False,
    threshold: common.ThresholdOption = "balanced",
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Number or part of a name.", show_default="default"),
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List microphones and leave.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Caption what the microphone hears, until Ctrl-C."""
    from clients import AudioFormat
    from clients.microphone import device_table, input_devices, microphone, supported_rate_hz

    if list_devices:
        from rich.console import Console

        Console().print(device_table(input_devices()))
        return
    rate_hz = supported_rate_hz(device)
    audio = AudioFormat(sample_rate_hz=rate_hz)
    options = _options(task, threshold, target, source_text)
    client = _client(url, audio, glossary, language, task, options)
    asyncio.run(_caption(client, microphone(device, rate_hz), as_json, meter=True))


def demo() -> None:
    """Caption a bundled recording with and without a glossary, and compare."""
    from streaming.demo import run_demo

    raise typer.Exit(run_demo())


def _ready(running: Running) -> str:
    vosk = f"  vosk {running.vosk_url}" if running.vosk_port is not None else ""
    return f"captions page {running.url}  websocket {running.ws_url}{vosk}  (Ctrl-C stops)"


def _mqtt_publisher(url: str, node: str | None) -> Any:
    from streaming.publishers.mqtt import MqttPublisher, MqttSettings

    return MqttPublisher(MqttSettings.from_url(url, node=node))


def _require_audio(file: str) -> None:
    """Complain about a file before anything is sent."""
    from clients import audio_duration_s

    audio_duration_s(file)


def _options(task: str, threshold: float | str, target: str, source_text: bool) -> dict[str, Any]:
    """What is not the default, so that servers that know no translation are not asked for it."""
    translation = {"target_language": target, "source_text": source_text}
    return {"threshold": threshold, **(translation if task == "translate" else {})}


def _client(
    url: str,
    audio: AudioFormat,
    glossary: str | None,
    language: str,
    task: str,
    options: dict[str, Any],
) -> tuple[CaptionClient, list[Any]]:
    """A client, and the glossary entries that do not fit into its first message."""
    from clients import CaptionClient

    first: str | list[Any] | None = glossary
    later: list[Any] = []
    if glossary and (Path(glossary).suffix in common.GLOSSARY_SUFFIXES or Path(glossary).exists()):
        first = [_entry(term) for term in common.read_terms(Path(glossary), language)]
        if len(json.dumps(first)) > START_BYTES:
            first, later = [], first
    client = CaptionClient(
        url,
        api_key=os.environ.get(API_KEY_VARIABLE),
        audio=audio,
        language=language,
        task=task,
        glossary=first,
        options=options,
    )
    return client, later


def _entry(term: Any) -> dict[str, Any] | str:
    """A term as the protocol has it."""
    entry = {
        "term": term.text,
        "sounds_like": list(term.sounds_like),
        "target": term.target,
        "weight": term.weight,
    }
    plain = not term.sounds_like and term.target is None and term.weight == 1.0
    return str(term.text) if plain else entry


async def _caption(
    prepared: tuple[CaptionClient, list[Any]],
    source: AsyncIterator[bytes],
    as_json: bool,
    *,
    meter: bool = False,
) -> None:
    from clients.events import ErrorReported
    from clients.microphone import metered
    from clients.terminal import TerminalCaptions

    client, later = prepared
    screen = TerminalCaptions()
    if meter and not as_json:
        source = metered(source, screen.set_level)
    async with client:
        if later:
            await client.edit_glossary(add=later)
        # Before the first event is shown: whoever sees one may press Ctrl-C.
        events = client.caption(_until(_interruption(), source))
        if as_json:
            async for event in events:
                print(_json_line(event), flush=True)
            return
        with screen:
            async for event in events:
                screen.handle(event)
                if isinstance(event, ErrorReported) and not sys.stdout.isatty():
                    common.note(event.message)  # the screen shows errors on a terminal only


def _json_line(event: Event) -> str:
    from dataclasses import asdict

    return json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False)


def _interruption() -> asyncio.Event:
    """Set by the first Ctrl-C from now on; the second one ends the program."""
    import signal

    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        interrupted.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, stop)
    return interrupted


async def _until(end: asyncio.Event, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Audio until it ends or ``end`` is set, so that the last caption still comes."""
    ending = asyncio.create_task(end.wait())
    try:
        while True:
            chunk = asyncio.ensure_future(anext(source, None))
            await asyncio.wait({chunk, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not chunk.done():
                chunk.cancel()
                return
            if (heard := chunk.result()) is None:
                return
            yield heard
    finally:
        ending.cancel()
