"""Deepgram's live interface on a real server, by deepgram-sdk 7 and by what frameworks send."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import websockets

from a2p_engine.types import Samples
from streaming.dialects import deepgram as dialect
from streaming.security.keys import new_key, write_keys
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.recordings import opus_packets, packed, wav
from tests.streaming.signals import pcm, silence, tone

with warnings.catch_warnings():
    # The package asks the websockets library for names that are on their way out.
    warnings.simplefilter("ignore", DeprecationWarning)
    import deepgram
    from deepgram.core.api_error import ApiError
    from deepgram.core.events import EventType
    from deepgram.listen.v1.types import (
        ListenV1Configure,
        ListenV1ConfigureFailure,
        ListenV1ConfigureSuccess,
        ListenV1Error,
        ListenV1Metadata,
        ListenV1Results,
        ListenV1SpeechStarted,
        ListenV1UtteranceEnd,
    )

SPEECH = np.concatenate([silence(0.5), tone(2), silence(2)])
ENERGY = {"additional_query_parameters": {"vad": "energy"}}  # which hears a tone as speech
LINEAR16 = {"encoding": "linear16", "sample_rate": 16000}


def address(server: Running) -> str:
    """Where clients are told to connect to."""
    return f"ws://127.0.0.1:{server.port}"


class Listener:
    """A connection of the package, and every event that it gave."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.got: list[Any] = []
        self.errors: list[Exception] = []
        self.closed = asyncio.Event()
        self._news = asyncio.Event()
        socket.on(EventType.MESSAGE, self._take)
        socket.on(EventType.ERROR, self.errors.append)
        socket.on(EventType.CLOSE, lambda _: self.closed.set())

    def _take(self, message: Any) -> None:
        self.got.append(message)
        self._news.set()

    def all(self, kind: type) -> list[Any]:
        """Events of a type so far."""
        return [message for message in self.got if isinstance(message, kind)]

    async def wait_for(self, found: Callable[[Any], bool]) -> Any:
        """The first event of which that is true."""
        async with asyncio.timeout(10):
            while True:
                for message in self.got:
                    if found(message):
                        return message
                self._news.clear()
                await self._news.wait()

    async def say(self, audio: bytes, block: int = 3200) -> None:
        """Send audio in blocks, faster than it would be spoken."""
        for at in range(0, len(audio), block):
            await self.socket.send_media(audio[at : at + block])
            await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(
    server: Running, api_key: str = "none", **asked: Any
) -> AsyncIterator[Listener]:
    """Connect as the package's manual says; at the end wait for the last event."""
    ws = address(server)
    http = ws.replace("ws", "http", 1)
    environment = deepgram.DeepgramClientEnvironment(
        base=http, production=ws, agent=ws, agent_rest=http
    )
    client = deepgram.AsyncDeepgramClient(api_key=api_key, environment=environment)
    given = {"model": "nova-3", **LINEAR16, "request_options": ENERGY, **asked}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        async with client.listen.v1.connect(**given) as socket:
            listener = Listener(socket)
            task = asyncio.create_task(socket.start_listening())
            yield listener
            async with asyncio.timeout(10):
                await listener.closed.wait()
                await task


def transcript(results: Any) -> str:
    """What was said."""
    return str(results.channel.alternatives[0].transcript)


def is_final(message: Any) -> bool:
    """Whether it is a final with text."""
    return isinstance(message, ListenV1Results) and bool(message.is_final and transcript(message))


# The package


async def test_interims_finals_and_events_as_the_package_types_them(serving: Serving) -> None:
    """From the first sound to the metadata, and a close in good order."""
    async with (
        serving() as server,
        listening(server, interim_results=True, vad_events=True, utterance_end_ms=1000) as client,
    ):
        await client.say(pcm(SPEECH))
        await client.wait_for(lambda message: isinstance(message, ListenV1UtteranceEnd))
        await client.socket.send_close_stream()
    kinds = list(dict.fromkeys(type(message) for message in client.got))
    expected = [ListenV1SpeechStarted, ListenV1Results, ListenV1UtteranceEnd, ListenV1Metadata]
    assert kinds == expected and not client.errors
    *interims, final = client.all(ListenV1Results)
    assert interims and not any(result.is_final for result in interims)
    assert {result.start for result in interims} == {final.start}
    assert final.is_final and final.speech_final and not final.from_finalize
    assert transcript(final).startswith("w0 w1 w2")
    words = final.channel.alternatives[0].words
    assert " ".join(word.punctuated_word for word in words) == transcript(final)
    assert final.channel.alternatives[0].confidence == 0.9 == words[0].confidence
    (ended,) = client.all(ListenV1UtteranceEnd)
    assert ended.last_word_end == words[-1].end
    (started,) = client.all(ListenV1SpeechStarted)
    assert started.timestamp == pytest.approx(0.5, abs=0.1)
    (metadata,) = client.all(ListenV1Metadata)
    assert metadata.duration == pytest.approx(4.5, abs=0.01)
    assert metadata.request_id == final.metadata.request_id
    assert final.metadata.model_info.name == "fake"


async def test_without_interim_results_there_are_finals_alone(serving: Serving) -> None:
    """As it is by default."""
    async with serving() as server, listening(server) as client:
        await client.say(pcm(SPEECH))
        await client.wait_for(is_final)
        await client.socket.send_close_stream()
    assert [type(message) for message in client.got] == [ListenV1Results, ListenV1Metadata]


async def test_what_is_said_last_comes_before_the_metadata(serving: Serving) -> None:
    """CloseStream in the middle of speech loses nothing."""
    async with serving() as server, listening(server) as client:
        await client.say(pcm(tone(2)))
        await client.socket.send_close_stream()
    final, metadata = client.got
    assert is_final(final) and final.speech_final and isinstance(metadata, ListenV1Metadata)


async def test_finalize_gives_the_final_at_once(serving: Serving) -> None:
    """Without silence; and an empty one when there is nothing to finish."""
    async with serving() as server, listening(server) as client:
        await client.say(pcm(silence(0.3), tone(2)))
        await client.socket.send_finalize()
        first = await client.wait_for(is_final)
        await client.socket.send_finalize()
        empty = await client.wait_for(
            lambda message: isinstance(message, ListenV1Results) and not transcript(message)
        )
        await client.socket.send_close_stream()
    assert first.from_finalize and first.speech_final and transcript(first).startswith("w0")
    assert empty.from_finalize and empty.is_final and empty.start >= first.start


async def test_keyterms_reach_the_engine_and_can_be_replaced(
    serving: Serving, engine: FakeEngine, tmp_path: Path
) -> None:
    """More than a hundred of them, on top of a glossary of the server."""
    (tmp_path / "ward.txt").write_text("warfarin\n")
    many = ["Dr. Ahn", *(f"term {number}" for number in range(150))]
    query = {"additional_query_parameters": {"glossary": "ward"}}
    asked = {"keyterm": many, "keywords": ["apixaban:3"], "request_options": query}
    glossaries = {"ward": tmp_path / "ward.txt"}
    async with serving(glossaries=glossaries) as server, listening(server, **asked) as client:
        await client.socket.send_finalize()
        await client.wait_for(lambda each: isinstance(each, ListenV1Results))
        (session,) = engine.sessions.values()
        assert set(session.terms) == {"warfarin", "apixaban", *many}
        assert session.terms["apixaban"].weight == 4.0
        await client.socket.send_configure(ListenV1Configure(keyterms=["Dr. Ahn", "new"]))
        done = await client.wait_for(lambda each: isinstance(each, ListenV1ConfigureSuccess))
        assert done.keyterms == ["Dr. Ahn", "new"]
        assert set(session.terms) == {"warfarin", "apixaban", "Dr. Ahn", "new"}
        await client.socket.send_configure(ListenV1Configure(keyterms=["unloadable"]))
        failed = await client.wait_for(lambda each: isinstance(each, ListenV1ConfigureFailure))
        assert failed.code == "CONFIGURE_INTERNAL_ERROR" and "unloadable" in failed.description
        await client.socket.send_close_stream()


async def test_a_client_that_falls_silent_is_closed_unless_it_says_keep_alive(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error that the manuals explain, in a message and in the close frame."""
    monkeypatch.setattr(dialect, "IDLE_TIMEOUT_S", 0.5)
    async with serving() as server, listening(server) as client:
        for _ in range(6):
            await asyncio.sleep(0.2)
            await client.socket.send_keep_alive()
        assert not client.got and not client.closed.is_set()
        await client.socket.send_media(pcm(tone(1)))
    last, error = client.got
    assert is_final(last) and last.duration == 1.0  # what was said is not lost
    assert isinstance(error, ListenV1Error) and error.variant == "NET-0001"
    (closed,) = client.errors
    assert isinstance(closed, websockets.ConnectionClosedError) and closed.rcvd is not None
    assert closed.rcvd.code == 1011 and closed.rcvd.reason.startswith("NET-0001")


async def test_an_unknown_message_is_told_and_the_session_goes_on(serving: Serving) -> None:
    """As the error that the package knows for it."""
    async with serving() as server, listening(server) as client:
        await client.socket._send('{"type":"Nonsense"}')
        error = await client.wait_for(lambda message: isinstance(message, ListenV1Error))
        assert error.variant == "SchemaError" and error.message == '{"type":"Nonsense"}'
        await client.say(pcm(SPEECH))
        await client.wait_for(is_final)
        await client.socket.send_close_stream()
    assert not client.errors


async def test_audio_that_cannot_be_decoded_ends_with_the_error_of_the_manuals(
    serving: Serving,
) -> None:
    """Raw samples without an encoding are no container."""
    async with serving() as server, listening(server, encoding=None) as client:
        await client.say(pcm(silence(0.2)))
    (error,) = client.got
    assert isinstance(error, ListenV1Error) and error.variant == "DATA-0000"
    assert "encoding was not told" in error.description
    (closed,) = client.errors
    assert isinstance(closed, websockets.ConnectionClosedError) and closed.rcvd is not None
    assert closed.rcvd.code == 1008 and closed.rcvd.reason.startswith("DATA-0000")


async def test_a_value_that_is_not_offered_is_refused_with_the_handshake(serving: Serving) -> None:
    """400, on which clients do not try again."""
    async with serving() as server:
        with pytest.raises(ApiError) as caught:
            async with listening(server, encoding="g729"):
                pass
    assert caught.value.status_code == 400


async def test_a_full_server_says_so(serving: Serving) -> None:
    """1013 and when to come again; nobody else is disturbed."""
    async with (
        serving(max_sessions=1) as server,
        listening(server) as first,
    ):
        await first.say(pcm(silence(0.1)))
        async with listening(server) as second:
            pass
        await first.socket.send_close_stream()
    assert second.got[0].variant == "full"
    assert not first.errors
    closed = second.errors[0]
    assert isinstance(closed, websockets.ConnectionClosedError) and closed.rcvd is not None
    assert closed.rcvd.code == 1013 and "retry after" in closed.rcvd.reason


async def test_keys_of_the_package_and_of_browsers(serving: Serving, tmp_path: Path) -> None:
    """The header ``Authorization: Token KEY``, or the subprotocol ``token, KEY``."""
    made = new_key("clinic", ["captions"])
    write_keys(tmp_path / "keys.json", [made.record])
    secret = made.secret
    async with serving(keys_file=tmp_path / "keys.json") as server:
        async with listening(server, api_key=secret) as client:
            await client.socket.send_close_stream()
        assert isinstance(client.got[0], ListenV1Metadata)
        with pytest.raises(ApiError) as caught:
            async with listening(server, api_key="wrong"):
                pass
        assert caught.value.status_code == 401
        url = f"{address(server)}/v1/listen?model=nova-3"
        async with websockets.connect(url, subprotocols=["token", secret]) as browser:  # type: ignore[list-item]
            assert browser.subprotocol == "token"


# Encodings


def companded(audio: Samples) -> bytes:
    """Mu-law (ITU-T G.711) at 8 kHz."""
    samples = np.clip(soxr.resample(audio, 16_000, 8_000) * 32768, -32635, 32635).astype(int)
    magnitude = np.abs(samples) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    code = ~((samples < 0) * 0x80 | exponent << 4 | mantissa) & 0xFF
    return bytes(code.astype("u1"))


def linear16(audio: Samples, rate_hz: int, channels: int = 1) -> bytes:
    """Signed 16-bit samples at a rate, the same in all channels."""
    resampled = np.clip(soxr.resample(audio, 16_000, rate_hz), -1, 1)
    return pcm(np.repeat(resampled, channels))


FORMS: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    **{
        f"linear16 at {rate_hz}": (
            {"encoding": "linear16", "sample_rate": rate_hz},
            [linear16(SPEECH, rate_hz)],
        )
        for rate_hz in (8_000, 16_000, 24_000, 48_000)
    },
    "linear16, two channels": (
        {"encoding": "linear16", "sample_rate": 16_000, "channels": 2, "multichannel": True},
        [linear16(SPEECH, 16_000, 2)],
    ),
    "mulaw": ({"encoding": "mulaw", "sample_rate": 8_000}, [companded(SPEECH)]),
    "opus packets": ({"encoding": "opus", "sample_rate": 48_000}, opus_packets(SPEECH)),
    "opus in Ogg, called opus": (
        {"encoding": "opus", "sample_rate": 48_000},
        [packed("ogg", SPEECH)],
    ),
    "WebM": ({"encoding": None, "sample_rate": None}, [packed("webm", SPEECH)]),
    "WAV": ({"encoding": None, "sample_rate": None}, [wav(SPEECH)]),
    "flac": ({"encoding": "flac", "sample_rate": 16_000}, [packed("flac", SPEECH)]),
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_encoding_is_heard_alike(serving: Serving, form: str) -> None:
    """The same speech at the same time, whatever it was packed in."""
    asked, messages = FORMS[form]
    async with serving() as server, listening(server, **asked) as client:
        for message in messages:
            await client.say(message, block=len(message) if len(messages) > 1 else 1000)
        await client.socket.send_close_stream()
    final, metadata = client.got
    assert is_final(final) and final.start == pytest.approx(0.2, abs=0.1)
    assert 8 <= len(transcript(final).split()) <= 11
    assert metadata.duration == pytest.approx(4.5, abs=0.1)


# Frameworks


class LiveKit:
    """What livekit-plugins-deepgram 1.8.9 does with the messages: its events, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.speaking = False
        self.request_ids: set[str] = set()

    def take(self, message: dict[str, Any]) -> None:
        """Follow one message."""
        kind = message["type"]
        if kind == "SpeechStarted":
            self._speak()
        elif kind == "Results":
            self.request_ids.add(message["metadata"]["request_id"])
            (alternative,) = message["channel"]["alternatives"]
            assert isinstance(alternative["confidence"], float)
            if alternative["transcript"]:
                self._speak()
                self.events.append("final" if message["is_final"] else "interim")
            if message["speech_final"]:
                self._fall_silent()
        elif kind == "UtteranceEnd":
            self._fall_silent()
        else:
            assert kind == "Metadata"

    def _speak(self) -> None:
        if not self.speaking:
            self.events.append("start")
        self.speaking = True

    def _fall_silent(self) -> None:
        if self.speaking:
            self.events.append("end")
        self.speaking = False


LIVEKIT_QUERY = (
    "model=nova-3&punctuate=true&smart_format=false&no_delay=true&interim_results=true"
    "&encoding=linear16&vad_events=true&sample_rate=16000&channels=1&endpointing=25"
    "&filler_words=true&profanity_filter=false&numerals=false&mip_opt_out=false"
    "&keywords=apixaban%3A1.5&keyterm=Dr.+Ahn&keyterm=warfarin&language=en-US&vad=energy"
)


async def test_livekit(serving: Serving, engine: FakeEngine) -> None:
    """50 ms a message, KeepAlive from the first, Finalize at each flush, CloseStream at the end."""
    heard = LiveKit()
    async with serving() as server:
        url = f"{address(server)}/v1/listen?{LIVEKIT_QUERY}"
        headers = {"Authorization": "Token none"}
        async with websockets.connect(url, additional_headers=headers) as socket:
            await socket.send('{"type": "KeepAlive"}')
            for part in (SPEECH, tone(1)):  # the second is cut off by the flush, not by silence
                audio = pcm(part)
                for at in range(0, len(audio), 1600):
                    await socket.send(audio[at : at + 1600])
                    await asyncio.sleep(0.01)
                await socket.send('{"type": "Finalize"}')
            assert set(next(iter(engine.sessions.values())).terms) == {
                "apixaban",
                "Dr. Ahn",
                "warfarin",
            }
            await socket.send('{"type": "CloseStream"}')
            async with asyncio.timeout(10):
                async for message in socket:
                    heard.take(json.loads(message))
        assert socket.close_code == 1000
    once = [event for event in heard.events if event != "interim"]
    assert once == ["start", "final", "end", "start", "final", "end"]
    assert "interim" in heard.events and len(heard.request_ids) == 1


async def test_pipecat(serving: Serving) -> None:
    """Everything as text in the query; a final is confirmed when it comes from its Finalize."""
    asked = {
        "detect_entities": "false",
        "diarize": "false",
        "dictation": "false",
        "interim_results": "true",
        "numerals": "false",
        "punctuate": "true",
        "smart_format": "false",
        "language": "en",
        "encoding": "linear16",
        "channels": "1",
        "multichannel": "false",
        "sample_rate": "16000",
    }
    async with serving() as server, listening(server, **asked) as client:
        await client.say(pcm(silence(0.3), tone(2)), block=640)
        await client.socket.send_finalize()
        confirmed = await client.wait_for(
            lambda message: isinstance(message, ListenV1Results) and message.from_finalize
        )
        await client.socket.send_close_stream()
    assert transcript(confirmed) and confirmed.is_final
    assert all(len(result.channel.alternatives) == 1 for result in client.all(ListenV1Results))
