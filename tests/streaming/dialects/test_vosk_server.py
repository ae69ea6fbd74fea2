"""Clients of Vosk's server on ours: what they really send, and what they make of the answers.

The messages are those of the public sources of Jigasi, BigBlueButton (mod_audio_fork), FreeSWITCH's
mod_vosk, Asterisk's res_speech_vosk, LinTO and Vosk's own test clients; what these programs do with
an answer is done again here, in a few lines each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soxr
import websockets
from websockets.asyncio.client import ClientConnection

from a2p_engine.errors import ModelError
from a2p_engine.types import Samples, StepRequest
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone

SPEECH = np.concatenate([silence(0.5), tone(2), silence(1), tone(1), silence(2)])
LENGTHS_S = (2, 1)
ENERGY = "vad=energy"  # which hears a tone as speech


def at_rate(audio: Samples, rate_hz: int) -> bytes:
    """As s16le bytes of another rate."""
    return pcm(np.clip(soxr.resample(audio, 16_000, rate_hz), -1, 1))


def blocks(audio: bytes, size: int) -> list[bytes]:
    """Cut into blocks; the last one may be shorter."""
    return [audio[at : at + size] for at in range(0, len(audio), size)]


@asynccontextmanager
async def dialled(server: Running, query: str = ENERGY, **options: Any) -> AsyncIterator[Any]:
    """A plain websocket to the dialect."""
    url = f"{server.vosk_url}?{query}"
    async with websockets.connect(url, compression=None, **options) as socket:
        yield socket


async def received(socket: ClientConnection) -> str:
    """The next text message."""
    async with asyncio.timeout(10):
        message = await socket.recv()
    assert isinstance(message, str)
    return message


async def lock_step(socket: ClientConnection, frames: list[bytes], pause_s: float = 0) -> list[str]:
    """Send each frame and wait for its reply."""
    replies = []
    for frame in frames:
        await socket.send(frame)
        replies.append(await received(socket))
        await asyncio.sleep(pause_s)
    return replies


async def rest_of(socket: ClientConnection) -> tuple[list[str], int | None, str | None]:
    """What still comes, and how the server closes."""
    messages = []
    async with asyncio.timeout(10):
        try:
            while True:
                messages.append(str(await socket.recv()))
        except websockets.ConnectionClosed:
            return messages, socket.close_code, socket.close_reason


def texts(messages: list[str]) -> list[str]:
    """Texts of the results that are not empty."""
    results = [json.loads(message) for message in messages]
    return [result["text"] for result in results if result.get("text")]


def utterances(said: list[str]) -> list[str]:
    """Texts split where the fake engine begins to count: it writes w0 w1 w2... in each segment."""
    return [f"w0{each}".strip() for each in " ".join(said).split("w0")[1:]]


def heard(said: list[str], *lengths_s: float) -> bool:
    """Whether these are utterances of such lengths, each in one piece.

    The engine writes a word for every quarter second, a few more for the silence around speech.
    """
    counts = [len(each.split()) for each in said]
    whole = all(each.split() == [f"w{i}" for i in range(len(each.split()))] for each in said)
    expected = [round(length_s / 0.25) for length_s in lengths_s]
    close = all(least <= count <= least + 4 for least, count in zip(expected, counts, strict=False))
    return whole and close and len(counts) == len(expected)


# The clients


async def test_the_test_client_of_the_reference_server(serving: Serving) -> None:
    """Lock step in blocks of 0.2 s as fast as it goes; one reply each, the rest after eof."""
    async with serving() as server, dialled(server) as socket:
        await socket.send('{ "config" : { "sample_rate" : 16000 } }')
        frames = blocks(pcm(SPEECH), 6400)
        replies = await lock_step(socket, frames)
        await socket.send('{"eof" : 1}')
        last, code, _ = await rest_of(socket)
    assert (len(replies), len(last), code) == (len(frames), 1, 1000)
    said = texts(replies + last)
    assert heard(utterances(said), *LENGTHS_S)
    words = [word for each in replies + last for word in json.loads(each).get("result", [])]
    starts = [word["start"] for word in words]
    assert [word["word"] for word in words] == " ".join(said).split()
    assert starts == sorted(starts) and 0 <= starts[0] < 0.6
    assert all(0 < word["end"] - word["start"] and word["conf"] == 0.9 for word in words)


class Jigasi:
    """What VoskTranscriptionService does with a message, and which results it passes on."""

    def __init__(self) -> None:
        self.last = ""
        self.told: list[tuple[bool, str]] = []

    def on_message(self, message: str) -> None:
        """A result without a partial is final; equal partials in a row are one."""
        result = json.loads(message)
        partial = "partial" in result
        text = result["partial"] if partial else result["text"]
        if text and (not partial or text != self.last):
            self.last = text
            self.told.append((partial, text))


async def test_jigasi(serving: Serving) -> None:
    """48 kHz in blocks of half a second, the rate written as a Java double."""
    jigasi = Jigasi()
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config" : {"sample_rate" : 48000.0 }}')
        for reply in await lock_step(socket, blocks(at_rate(SPEECH, 48_000), 48_000), 0.1):
            jigasi.on_message(reply)
        await socket.send('{"eof" : 1}')
        last, code, _ = await rest_of(socket)
        for message in last:
            jigasi.on_message(message)
    assert code == 1000
    assert heard([text for partial, text in jigasi.told if not partial], *LENGTHS_S)
    kinds = [kind for kind, _ in groupby(partial for partial, _ in jigasi.told)]
    assert kinds == [True, False, True, False]  # each utterance was seen to grow


class BigBlueButton:
    """What its transcription controller publishes for messages that mod_audio_fork passes on."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.results: list[str] = []

    def on_message(self, message: str) -> None:
        """Text, else partial; the line is named by the time at which it began."""
        body = json.loads(message)
        assert "type" not in body and "errorCode" not in body  # these are not passed on as text
        transcript = body.get("text") or body.get("partial")
        begin = body.get("time_begin", 0)
        assert isinstance(begin, int)
        self.lines[f"user-en-US-{begin}"] = transcript or ""
        if body.get("text"):
            self.results.append(transcript)


@pytest.mark.parametrize("times", [0, 1])
async def test_bigbluebutton(serving: Serving, times: int) -> None:
    """16 kHz in packets of 20 ms, the rate as a string; with times each utterance is a line."""
    bbb = BigBlueButton()
    async with serving() as server, dialled(server, f"{ENERGY}&times={times}") as socket:
        await socket.send('{"config":{"sample_rate":"16000"}}')
        for reply in await lock_step(socket, blocks(pcm(SPEECH), 640), 0.002):
            bbb.on_message(reply)
        await socket.send('{"eof":1}')
        last, code, _ = await rest_of(socket)
        for message in last:
            bbb.on_message(message)
    assert code == 1000
    assert heard(bbb.results, *LENGTHS_S)
    # Without times all lines have one name; an empty partial at the end leaves it empty.
    assert [text for text in bbb.lines.values() if text] == (bbb.results if times else [])


class ModVosk:
    """FreeSWITCH's module: one message is kept at a time, and searched as text."""

    def __init__(self) -> None:
        self.result: str | None = None
        self.detected: list[str] = []

    def feed(self, message: str) -> None:
        """Keep the message; see whether it is a result."""
        self.result = message
        if '""' not in message and '"partial"' not in message:
            self.detected.append(json.loads(message)["text"])


async def test_mod_vosk(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """No config, 8 kHz in blocks of 3200 bytes; pings are answered; no eof, the line just drops."""
    module = ModVosk()
    async with serving(ping_s=0.1) as server, dialled(server) as socket:
        for reply in await lock_step(socket, blocks(at_rate(SPEECH, 8000), 3200), 0.05):
            module.feed(reply)
        with caplog.at_level(logging.INFO):
            socket.transport.abort()
            await gone(server)
    assert heard(module.detected, *LENGTHS_S)
    assert complaints(caplog) == []


async def test_asterisk(
    serving: Serving, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its subprotocol is accepted; it closes right behind eof, which nobody has to know."""
    told = []
    async with serving() as server, dialled(server, subprotocols=["ws"]) as socket:
        assert socket.subprotocol == "ws"
        for reply in await lock_step(socket, blocks(at_rate(SPEECH, 8000), 3200), 0.05):
            result = json.loads(reply)
            told += [text for key in ("partial", "text") if (text := result.get(key))]
        await socket.send(blocks(at_rate(tone(1), 8000), 3200)[0])
        with caplog.at_level(logging.INFO):
            await socket.send('{"eof" : 1}')
            await asyncio.gather(socket.close(1000), abort_soon(socket))
            await gone(server)
    assert heard([told[-1]], LENGTHS_S[-1])
    assert complaints(caplog) == []
    assert engine.sessions == {}


async def test_linto(serving: Serving) -> None:
    """A compact config; text before partial; it leaves with a close that has no code."""
    transcribed, transcribing = [], []
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        for reply in await lock_step(socket, blocks(pcm(SPEECH), 6400), 0.05):
            data = json.loads(reply)
            if data.get("text"):
                transcribed.append(data["text"])
            elif data.get("partial"):
                transcribing.append(data["partial"])
        async with socket.send_context():
            socket.protocol.send_close()  # as a browser's close() without arguments
        await gone(server)
    assert heard(transcribed, *LENGTHS_S)
    assert transcribing


@pytest.mark.parametrize("kind", ["txt", "srt"])
async def test_the_public_command_line_client(serving: Serving, tmp_path: Path, kind: str) -> None:
    """``vosk-transcriber --server`` of PyPI's vosk writes a file in both formats.

    A third one, JSON, it fails to write whatever the server says. Its address is always that of
    port 2700, which may be taken, so another is put in. It loads a model that it then does not use,
    and has ffmpeg decode the file: neither is here, so the model is left out and the file holds
    what ffmpeg would give.
    """
    recording, output = tmp_path / "speech.raw", tmp_path / f"out.{kind}"
    recording.write_bytes(pcm(SPEECH))
    decoder = tmp_path / "ffmpeg"
    decoder.write_text('#!/bin/sh\nexec cat "$5"\n')
    decoder.chmod(0o755)
    program = (
        "import sys; from vosk.transcriber import transcriber, cli\n"
        "transcriber.Model = lambda **arguments: None\n"
        "cli.parser.set_defaults(server=sys.argv.pop(1))\n"
        "sys.exit(cli.main())"
    )
    async with serving() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, f"{server.vosk_url}?{ENERGY}"),
            *("--input", recording, "--output", output, "--output-type", kind),
            env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "*"},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    written = output.read_text()
    if kind == "txt":
        assert heard(utterances([written]), *LENGTHS_S)
    else:
        lines = written.splitlines()
        assert lines[0] == "1" and lines[1].startswith("00:00:00,") and " --> " in lines[1]
        assert heard(utterances([line for line in lines if line.startswith("w")]), *LENGTHS_S)


# The server around them


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes moments."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def gone(server: Running) -> None:
    """Wait until the server has forgotten all connections."""
    await until(lambda: server.hub.sessions == 0)


async def abort_soon(socket: ClientConnection) -> None:
    """Cut the line while the close is under way."""
    await asyncio.sleep(0)
    socket.transport.abort()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings and errors of the server in the log."""
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in records if record.name != "asyncio"]


async def test_every_path_of_the_port(serving: Serving) -> None:
    """With a port of its own the dialect answers everywhere there, and elsewhere as before."""
    async with serving(vosk_port=0, vosk_sample_rate_hz=16_000) as server:
        assert server.vosk_port not in (None, server.port)
        for path in ("", "voskEN", "ws", "a/b/c"):
            url = f"{server.vosk_url}{path}?{ENERGY}"
            async with websockets.connect(url) as socket:
                assert len(await lock_step(socket, blocks(pcm(SPEECH), 6400))) == 33
                await socket.send('{"eof" : 1}')
                last, code, _ = await rest_of(socket)
                assert (len(last), code) == (1, 1000)
        async with websockets.connect(server.ws_url) as socket:
            await socket.send('{"type":"start"}')
            assert json.loads(await received(socket))["type"] == "session.started"
        async with httpx.AsyncClient() as client:
            alive = await client.get(f"http://127.0.0.1:{server.vosk_port}/healthz")
        assert alive.status_code == 200


async def test_without_a_port_there_is_a_path(serving: Serving) -> None:
    """And only that one."""
    async with serving() as server:
        assert server.vosk_url == f"ws://127.0.0.1:{server.port}/vosk"


async def test_replies_do_not_wait_for_the_engine(serving: Serving, engine: FakeEngine) -> None:
    """Not even for a slow one; and those of audio that is too far ahead come in the end."""
    engine.step_s = 0.6
    async with serving(max_backlog_s=2) as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        async with asyncio.timeout(0.5):
            await lock_step(socket, blocks(pcm(silence(0.5), tone(1)), 6400))
        frames = blocks(pcm(tone(8), silence(1)), 6400)
        replies = await lock_step(socket, frames)
        await socket.send('{"eof" : 1}')
        last, code, _ = await rest_of(socket)
    assert (len(replies), len(last), code) == (len(frames), 1, 1000)
    assert heard(utterances(texts(replies + last)), 9)


async def test_a_client_that_does_not_wait(serving: Serving) -> None:
    """Everything at once: as many replies as frames, empty ones included, and a last message."""
    frames = [*blocks(pcm(SPEECH), 1000), b"", pcm(SPEECH), b"\0"]
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        for frame in frames:
            await socket.send(frame)
        await socket.send('{"eof" : 1}')
        messages, code, _ = await rest_of(socket)
    assert (len(messages), code) == (len(frames) + 1, 1000)
    assert heard(utterances(texts(messages)), *LENGTHS_S, *LENGTHS_S)


async def test_reset(serving: Serving) -> None:
    """One reply with the open segment's final; then the session goes on, and its clock too."""
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        await lock_step(socket, blocks(pcm(silence(0.5), tone(1.5)), 6400))
        await socket.send('{"reset" : 1}')
        first = json.loads(await received(socket))
        await lock_step(socket, blocks(pcm(silence(0.5), tone(1)), 6400))
        await socket.send('{"eof" : 1}')
        last, code, _ = await rest_of(socket)
    assert (len(last), code) == (1, 1000)
    second = json.loads(last[0])
    assert first["text"].split()[0] == "w0" and second["text"].split()[0] == "w0"
    assert second["result"][0]["start"] >= first["result"][-1]["end"]


async def test_an_end_without_audio(serving: Serving) -> None:
    """One empty result."""
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"eof" : 1}')
        assert await rest_of(socket) == (['{\n  "text" : ""\n}'], 1000, "")


async def test_phrases_are_terms(serving: Serving, engine: FakeEngine) -> None:
    """Besides the server's glossary; those that come later are added."""
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"phrase_list":["apixaban","bed four","[unk]"]}}')
        await lock_step(socket, [pcm(silence(0.2))])
        await until(lambda: len(engine.sessions) == 1)
        (session,) = engine.sessions.values()
        assert set(session.terms) == {"apixaban", "bed four"}
        await socket.send('{"config":{"phrase_list":["Eliquis"]}}')
        await lock_step(socket, [pcm(silence(0.2))])
        await until(lambda: "Eliquis" in session.terms)


@pytest.mark.parametrize(
    ("query", "messages", "code", "reason"),
    [
        ("language=fr", [], 1008, 'bad_option: language is "fr"; accepted: auto, en, de'),
        ("", ["hello"], 1007, "bad_json: not JSON"),
        ("", ['{"config":{"sample_rate":"fast"}}'], 1008, 'bad_option: sample_rate is "fast"'),
        ("", ['{"type":"start"}'], 1008, "bad_command: unknown message; accepted: "),
    ],
)
async def test_what_is_not_understood_ends_the_connection(
    serving: Serving, query: str, messages: list[str], code: int, reason: str
) -> None:
    """The close says why, in words."""
    async with serving() as server, dialled(server, query) as socket:
        for message in messages:
            await socket.send(message)
        told, closed, why = await rest_of(socket)
    assert (told, closed) == ([], code)
    assert why is not None and why.startswith(reason)


async def test_a_full_server(serving: Serving) -> None:
    """The one too many is sent away with a hint."""
    async with serving(max_sessions=1) as server, dialled(server) as socket:
        await lock_step(socket, [pcm(silence(0.2))])
        async with dialled(server) as other:
            assert await rest_of(other) == ([], 1013, "full; retry after 5 s")


async def test_a_stopping_server_delivers_last_finals(serving: Serving) -> None:
    """What was said comes in one message before the close."""
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        await lock_step(socket, blocks(pcm(silence(0.5), tone(2)), 6400))
        stopping = asyncio.create_task(server.stop())
        told, code, _ = await rest_of(socket)
        await stopping
    assert (len(texts(told)), len(told), code) == (1, 1, 1012)


async def test_a_failing_step_costs_one_segment(serving: Serving, engine: FakeEngine) -> None:
    """The client notices nothing but words that are missing."""

    def fail(request: StepRequest) -> None:
        if request.segment_id == 1:
            raise ModelError("the model is ill")

    engine.hook = fail
    async with serving() as server, dialled(server) as socket:
        await socket.send('{"config":{"sample_rate":16000}}')
        replies = await lock_step(socket, blocks(pcm(SPEECH), 6400), 0.02)
        await socket.send('{"eof" : 1}')
        last, code, _ = await rest_of(socket)
    assert (len(replies), len(last), code) == (33, 1, 1000)
    assert heard(texts(replies + last), LENGTHS_S[1])


async def test_a_session_that_cannot_be_opened(
    serving: Serving, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first frame has its reply all the same; then the close tells."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModelError("no model")

    monkeypatch.setattr(engine, "open", refuse)
    async with serving() as server, dialled(server) as socket:
        await socket.send(b"\0\0")
        told, code, reason = await rest_of(socket)
    assert (len(told), code, reason) == (1, 1011, "model_failed")
