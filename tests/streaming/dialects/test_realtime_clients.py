"""Clients of OpenAI's service on ours: what they really send, and what they make of the answers.

The messages are those of the public sources of Jitsi's opus-transcriber-proxy, LiveKit's plugin,
pipecat's service, and LinTO's transcriber; what these programs do with an answer is done again
here, in a few lines each.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import soxr
import websockets
from websockets.asyncio.client import ClientConnection

from a2p_engine.types import Samples
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.dialects.realtime_client import COMMIT_EMPTY, Message, base64_of
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone

SPEECH = np.concatenate([silence(0.5), tone(2), silence(1), tone(1), silence(2)])
PAUSE = silence(1)
PREFIX = "conversation.item.input_audio_transcription."
QUERY = "?intent=transcription&vad=energy"  # a detector that hears a tone as speech


@asynccontextmanager
async def dialled(server: Running, query: str = QUERY, **options: Any) -> AsyncIterator[Any]:
    """A plain websocket to the dialect."""
    url = f"{server.url.replace('http', 'ws', 1)}v1/realtime{query}"
    async with websockets.connect(url, compression=None, **options) as socket:
        yield socket


async def send(socket: ClientConnection, message: Message) -> None:
    """Send a message."""
    await socket.send(json.dumps(message))


async def append(socket: ClientConnection, audio: Samples, rate_hz: int, block_s: float) -> None:
    """Send audio in blocks."""
    data = pcm(np.clip(soxr.resample(audio, 16_000, rate_hz), -1, 1))
    size = 2 * round(rate_hz * block_s)
    for at in range(0, len(data), size):
        audio_text = base64_of(data[at : at + size])
        await send(socket, {"type": "input_audio_buffer.append", "audio": audio_text})


async def listen(
    socket: ClientConnection, on_message: Callable[[Message], None], done: Callable[[], bool]
) -> None:
    """Give messages to a client until it has what it waits for."""
    async with asyncio.timeout(20):
        while not done():
            on_message(json.loads(await socket.recv()))


class Jitsi:
    """What the proxy's OpenAI backend does with a message, and what the meeting gets to see."""

    known = (
        "session.created",
        "session.updated",
        "input_audio_buffer.committed",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "conversation.item.added",
        "conversation.item.done",
    )

    def __init__(self) -> None:
        self.interims: list[Message] = []
        self.finals: list[Message] = []
        self.ignored = 0
        self.closed_by = ""
        self.unhandled: list[str] = []

    def on_message(self, message: Message) -> None:
        """Deltas are interims; an empty commit is passed over, any other error ends the session."""
        kind = message["type"]
        if kind == PREFIX + "delta":
            self.interims.append(self._told(message, message["delta"]))
        elif kind == PREFIX + "completed":
            self.finals.append(self._told(message, message["transcript"]))
        elif kind == "error":
            error = message["error"]
            if (error["type"], error["code"]) == ("invalid_request_error", COMMIT_EMPTY):
                self.ignored += 1
            else:
                self.closed_by = error["message"]
        elif kind not in self.known:
            self.unhandled.append(kind)

    @staticmethod
    def _told(message: Message, text: str) -> Message:
        first = (message.get("logprobs") or [{}])[0].get("logprob")
        confidence = math.exp(first) if first is not None else None
        return {"id": message["item_id"], "text": text, "confidence": confidence}

    @staticmethod
    def update(prompt: str = "") -> Message:
        """Its session update: the same at the beginning and with each new prompt."""
        transcription = {"model": "gpt-4o-mini-transcribe", "language": "en"}
        return {
            "type": "session.update",
            "session": {
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "noise_reduction": {"type": "near_field"},
                        "transcription": {
                            **transcription,
                            **({"prompt": prompt} if prompt else {}),
                        },
                        "turn_detection": {
                            "type": "server_vad",
                            "threshold": 0.5,
                            "prefix_padding_ms": 300,
                            "silence_duration_ms": 300,
                        },
                    }
                },
                "include": ["item.input_audio_transcription.logprobs"],
            },
        }


JITSI = {"subprotocols": ("realtime", "openai-insecure-api-key.none")}


async def test_jitsi_sees_each_delta_and_each_final(serving: Serving) -> None:
    """Interims of a final have its id, make up its text, and carry the model's confidence."""
    jitsi = Jitsi()
    async with serving() as server, dialled(server, **JITSI) as socket:
        assert socket.subprotocol == "realtime"
        await send(socket, jitsi.update())
        await append(socket, SPEECH, 24_000, 0.02)
        await listen(socket, jitsi.on_message, lambda: len(jitsi.finals) == 2)
    for final in jitsi.finals:
        parts = [each["text"] for each in jitsi.interims if each["id"] == final["id"]]
        assert len(parts) > 1 and "".join(parts) == final["text"]
    confidences = [each["confidence"] for each in jitsi.interims + jitsi.finals]
    assert all(abs(confidence - 0.9) < 0.001 for confidence in confidences)
    assert (jitsi.closed_by, jitsi.unhandled) == ("", [])


async def test_jitsi_commits_when_a_participant_falls_silent(serving: Serving) -> None:
    """No audio comes then; a commit brings the final, and one too many ends nothing."""
    jitsi = Jitsi()
    async with serving() as server, dialled(server, **JITSI) as socket:
        await send(socket, jitsi.update())
        await send(socket, {"type": "input_audio_buffer.commit"})
        await append(socket, tone(1.1), 24_000, 0.02)
        await send(socket, {"type": "input_audio_buffer.commit"})
        await listen(socket, jitsi.on_message, lambda: len(jitsi.finals) == 1)
        await send(socket, {"type": "input_audio_buffer.commit"})
        await append(socket, PAUSE, 24_000, 0.02)
        await send(socket, {"type": "input_audio_buffer.commit"})
        await listen(socket, jitsi.on_message, lambda: jitsi.ignored == 3)
        await append(socket, np.concatenate([tone(1), PAUSE]), 24_000, 0.02)
        await listen(socket, jitsi.on_message, lambda: len(jitsi.finals) == 2)
    assert all(final["text"] for final in jitsi.finals)
    assert jitsi.closed_by == ""


async def test_jitsi_tells_what_the_others_say(serving: Serving, engine: FakeEngine) -> None:
    """Its update comes again with each of their sentences, up to 5 KB of them; none is an error."""
    head = (
        "apixaban, INR\n\nThe following is what the others in the conference have recently said, "
        "to be used as context.\n"
    )
    said = [f"b-17: And then Professor Adeyemi{i} asked for clarithromycin.\n" for i in range(90)]
    jitsi = Jitsi()
    async with serving() as server, dialled(server, **JITSI) as socket:
        await send(socket, jitsi.update(head))
        await append(socket, tone(1), 24_000, 0.02)
        for count in range(1, len(said) + 1):
            await send(socket, jitsi.update(head + "".join(said[:count])[-5000:]))
        await append(socket, PAUSE, 24_000, 0.02)
        await listen(socket, jitsi.on_message, lambda: len(jitsi.finals) == 1)
        (state,) = engine.sessions.values()
        terms = list(state.terms)
    assert jitsi.closed_by == ""
    assert terms[:2] == ["apixaban", "INR"]
    assert "Professor Adeyemi89" in terms and "clarithromycin" in terms
    assert "Professor Adeyemi0" not in terms


class LiveKit:
    """What the plugin's stream does with a message, and the speech events that it makes of it."""

    def __init__(self) -> None:
        self.text = ""
        self.interims: list[str] = []
        self.finals: list[str] = []
        self.speaking: list[bool] = []
        self.timing: dict[str, list[int]] = {}
        self.durations_s: list[float] = []

    def on_message(self, message: Message) -> None:
        """Deltas add up until a final; any error is fatal."""
        kind, item = message["type"], message.get("item_id", "")
        assert kind != "error", message
        if kind == "input_audio_buffer.speech_started":
            self.timing[item] = [message["audio_start_ms"]]
            self.speaking.append(True)
        elif kind == "input_audio_buffer.speech_stopped":
            self.timing[item].append(message["audio_end_ms"])
            self.speaking.append(False)
        elif kind == PREFIX + "delta":
            self.text += message["delta"]
            self.interims.append(self.text)
        elif kind == PREFIX + "completed":
            self.text = ""
            self.finals.append(message["transcript"])
            start_ms, end_ms = self.timing.pop(item)
            self.durations_s.append((end_ms - start_ms) / 1000)

    @staticmethod
    def update(**transcription: Any) -> Message:
        """Its session update; with the same fields again when something changes."""
        detection = {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 600,
            "silence_duration_ms": 350,
        }
        audio_input = {
            "format": {"rate": 24000, "type": "audio/pcm"},
            "transcription": {"model": "gpt-transcribe", "languages": ["en"], **transcription},
            "turn_detection": detection,
        }
        session = {"type": "transcription", "audio": {"input": audio_input}}
        return {"type": "session.update", "session": session}


async def test_livekit_follows_what_is_said(serving: Serving, engine: FakeEngine) -> None:
    """Interims grow to finals, speech begins and ends around them, terms come on the way."""
    livekit = LiveKit()
    query = f"{QUERY}&model=gpt-transcribe"
    headers = {"Authorization": "Bearer none", "User-Agent": "LiveKit Agents"}
    async with serving() as server, dialled(server, query, additional_headers=headers) as socket:
        await send(socket, livekit.update(keywords=["apixaban"]))
        half = len(SPEECH) // 2
        await append(socket, SPEECH[:half], 24_000, 0.05)
        await send(socket, livekit.update(keywords=["apixaban", "INR"]))
        await append(socket, SPEECH[half:], 24_000, 0.05)
        await listen(socket, livekit.on_message, lambda: len(livekit.finals) == 2)
        (state,) = engine.sessions.values()
        assert list(state.terms) == ["apixaban", "INR"]
    assert livekit.speaking == [True, False, True, False]
    assert all(final in livekit.interims for final in livekit.finals)
    assert [round(duration_s) for duration_s in livekit.durations_s] == [2, 1]


async def test_livekit_commits_for_models_without_turns(serving: Serving) -> None:
    """It leaves turn detection out then; commits, and more audio at once, are no errors."""
    update = LiveKit.update()
    update["session"]["audio"]["input"]["turn_detection"] = None
    finals: list[str] = []

    def on_message(message: Message) -> None:
        assert message["type"] != "error"
        if message["type"] == PREFIX + "completed":
            finals.append(message["transcript"])

    async with serving() as server, dialled(server) as socket:
        await send(socket, update)
        for _ in range(2):
            await append(socket, np.concatenate([tone(1), silence(0.3)]), 24_000, 0.05)
            await send(socket, {"type": "input_audio_buffer.commit"})
        await listen(socket, on_message, lambda: len(finals) == 2)
    assert all(final.startswith("w0 w1 w2 w3") for final in finals)


async def test_pipecat_waits_for_each_step(serving: Serving) -> None:
    """Created, then its update, then updated; then its own detector commits what was said."""
    async with serving() as server, dialled(server) as socket:
        created = json.loads(await socket.recv())
        assert created["type"] == "session.created"
        transcription = {"model": "gpt-transcribe", "language": "en", "prompt": "INR"}
        audio_input = {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": transcription,
            "turn_detection": None,
        }
        session = {"type": "transcription", "audio": {"input": audio_input}}
        await send(socket, {"type": "session.update", "session": session})
        assert json.loads(await socket.recv())["type"] == "session.updated"
        await append(socket, np.concatenate([tone(1), silence(0.2)]), 24_000, 0.02)
        await send(socket, {"type": "input_audio_buffer.commit"})
        told: list[Message] = []
        await listen(socket, told.append, lambda: told[-1:] and "transcript" in told[-1])
    assert "error" not in [message["type"] for message in told]
    assert told[-1]["transcript"].startswith("w0 w1 w2 w3")


class LinTO:
    """What LinTO's transcriber makes of messages; it cuts the growing text by itself."""

    def __init__(self) -> None:
        self.text = ""
        self.finals: list[str] = []

    def on_message(self, message: Message) -> None:
        """Deltas add up."""
        assert message["type"] != "error"
        if message["type"] in ("transcription.delta", PREFIX + "delta"):
            self.text += message["delta"]
        elif message["type"] == "transcription.done":
            self.finals.append(message["text"])
        elif message["type"] == PREFIX + "completed":
            self.finals.append(message["transcript"])


async def test_linto_as_a_client_of_vllm(serving: Serving) -> None:
    """It arms with a commit, never ends a turn, and has it all once it says its last."""
    linto = LinTO()
    async with serving() as server, dialled(server, "?vad=energy") as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"
        await send(socket, {"type": "session.update", "model": "voxtral"})
        await send(socket, {"type": "input_audio_buffer.commit", "final": False})
        await append(socket, SPEECH, 16_000, 0.2)
        await listen(socket, linto.on_message, lambda: linto.text.count("w0") == 2)
        assert linto.finals == []
        await send(socket, {"type": "input_audio_buffer.commit", "final": True})
        await listen(socket, linto.on_message, lambda: bool(linto.finals))
    assert linto.finals == [linto.text]


async def test_linto_as_a_client_of_the_beta(serving: Serving) -> None:
    """It says so in a header, and waits for the beta's greeting."""
    linto = LinTO()
    headers = {"Authorization": "Bearer none", "OpenAI-Beta": "realtime=v1"}
    async with serving() as server, dialled(server, additional_headers=headers) as socket:
        created = json.loads(await socket.recv())
        assert created["type"] == "transcription_session.created" and created["session"]["id"]
        transcription = {"model": "gpt-4o-transcribe"}
        session = {"input_audio_transcription": transcription, "input_audio_format": "pcm16"}
        await send(socket, {"type": "transcription_session.update", "session": session})
        await append(socket, SPEECH, 24_000, 0.2)
        await listen(socket, linto.on_message, lambda: len(linto.finals) == 2)
    assert "".join(linto.finals) == linto.text
