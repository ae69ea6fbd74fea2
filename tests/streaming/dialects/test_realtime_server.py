"""The openai package's client on the server, as its documentation has it used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.websocket_reconnection import ReconnectingEvent
from websockets.exceptions import ConnectionClosed, InvalidStatus

from a2p_engine.errors import ModelError
from a2p_engine.types import Samples, StepRequest
from streaming.audio.pcm import COMPANDED
from streaming.security.keys import new_key, write_keys
from streaming.server import Running
from tests.streaming.conftest import Serving
from tests.streaming.dialects.realtime_client import COMMIT_EMPTY, base64_of
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, silence, tone

SPEECH = np.concatenate([silence(0.5), tone(2), silence(1), tone(1), silence(2)])
LENGTHS_S = (2, 1)
ENERGY = {"intent": "transcription", "vad": "energy"}  # which hears a tone as speech


def at_rate(audio: Samples, rate_hz: int) -> bytes:
    """As s16le bytes of another rate."""
    return pcm(np.clip(soxr.resample(audio, 16_000, rate_hz), -1, 1))


def companded(audio: Samples, encoding: str) -> bytes:
    """As G.711 bytes: of each sample the nearest code."""
    table = COMPANDED[encoding]  # type: ignore[index]
    order = np.argsort(table, kind="stable")
    values, wanted = table[order], np.asarray(soxr.resample(audio, 16_000, 8_000))
    above = np.clip(np.searchsorted(values, wanted), 1, len(values) - 1)
    nearer = wanted - values[above - 1] < values[above] - wanted
    return order[np.where(nearer, above - 1, above)].astype(np.uint8).tobytes()


@asynccontextmanager
async def dialled(
    server: Running, query: dict[str, object] | None = None, key: str = "none", **options: Any
) -> AsyncIterator[AsyncRealtimeConnection]:
    """The package's client, which speaks to the server instead."""
    async with AsyncOpenAI(base_url=f"{server.url}v1", api_key=key) as client:
        connecting = client.realtime.connect(extra_query=query or ENERGY, **options)
        async with connecting as connection:
            yield connection


async def until(connection: AsyncRealtimeConnection, *kinds: str, count: int = 1) -> list[Any]:
    """Events up to the one of these types that makes ``count``."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        while sum(event.type in kinds for event in events) < count:
            events.append(await connection.recv())
    return events


async def append(connection: AsyncRealtimeConnection, audio: bytes, size: int = 4800) -> None:
    """Send audio in pieces, as a microphone does."""
    for at in range(0, len(audio), size):
        await connection.input_audio_buffer.append(audio=base64_of(audio[at : at + size]))


def session(**audio_input: Any) -> Any:
    """What ``session.update`` takes."""
    return {"type": "transcription", "audio": {"input": audio_input}}


COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
FAILED = "conversation.item.input_audio_transcription.failed"


def transcripts(events: Sequence[Any]) -> list[str]:
    """The whole texts among events."""
    return [event.transcript for event in events if event.type == COMPLETED]


def deltas(events: Sequence[Any]) -> list[str]:
    """What the deltas of each item come to, in the order of the items."""
    texts: dict[str, str] = {}
    for event in events:
        if event.type == DELTA:
            texts[event.item_id] = texts.get(event.item_id, "") + event.delta
    return list(texts.values())


def heard(events: Sequence[Any], *lengths_s: float) -> bool:
    """Whether the texts are of speech of such lengths, each in one piece.

    The engine writes a word for every quarter second, a few more for the silence around speech.
    """
    said = [text.split() for text in transcripts(events)]
    whole = all(words == [f"w{i}" for i in range(len(words))] for words in said)
    surplus = [len(words) - round(s / 0.25) for words, s in zip(said, lengths_s, strict=True)]
    return whole and all(0 <= words <= 4 for words in surplus)


async def test_a_session_as_the_documentation_has_it(serving: Serving) -> None:
    """Created, updated, turns found by the server, deltas that make up the transcripts."""
    async with serving() as server, dialled(server) as connection:
        (created,) = await until(connection, "session.created")
        assert created.session.type == "transcription"
        wanted = session(
            format={"type": "audio/pcm", "rate": 24_000},
            transcription={"model": "gpt-transcribe", "language": "de"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 600},
        )
        await connection.session.update(session=wanted)
        (updated,) = await until(connection, "session.updated")
        assert updated.session.audio.input.turn_detection.silence_duration_ms == 600
        await append(connection, at_rate(SPEECH, 24_000))
        events = await until(connection, COMPLETED, count=2)
        assert deltas(events) == transcripts(events)
        assert heard(events, *LENGTHS_S)
        assert events[-1].languages[0].code == "de"
        kinds = [event.type for event in events]
        assert kinds.count("input_audio_buffer.speech_started") == 2
        assert kinds.count("input_audio_buffer.speech_stopped") == 2
        committed = [event for event in events if event.type == "input_audio_buffer.committed"]
        assert committed[1].previous_item_id == committed[0].item_id


async def test_turns_that_the_client_commits(serving: Serving) -> None:
    """One item for each commit, however many segments it has."""
    async with serving() as server, dialled(server) as connection:
        await connection.session.update(session=session(turn_detection=None))
        await append(connection, at_rate(SPEECH, 24_000))
        await connection.input_audio_buffer.commit()
        await append(connection, at_rate(tone(1), 24_000))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED, count=2)
        assert deltas(events) == transcripts(events)
        both, last = transcripts(events)
        assert both.count("w0") == 2 and last.count("w0") == 1
        kinds = [event.type for event in events]
        assert "input_audio_buffer.speech_started" not in kinds


@pytest.mark.parametrize("name", ["pcm16", "pcm24", "pcm48", "pcmu", "pcma"])
async def test_all_formats_make_the_same_segments(serving: Serving, name: str) -> None:
    """Of the same audio, wherever the bytes are cut."""
    formats: dict[str, tuple[dict[str, Any], bytes]] = {
        "pcm16": ({"type": "audio/pcm", "rate": 16_000}, at_rate(SPEECH, 16_000)),
        "pcm24": ({"type": "audio/pcm", "rate": 24_000}, at_rate(SPEECH, 24_000)),
        "pcm48": ({"type": "audio/pcm", "rate": 48_000}, at_rate(SPEECH, 48_000)),
        "pcmu": ({"type": "audio/pcmu"}, companded(SPEECH, "mulaw")),
        "pcma": ({"type": "audio/pcma"}, companded(SPEECH, "alaw")),
    }
    chosen, audio = formats[name]
    async with serving() as server, dialled(server) as connection:
        await connection.session.update(session=session(format=chosen))
        await append(connection, audio, size=1001)
        events = await until(connection, COMPLETED, count=2)
        starts = [getattr(event, "audio_start_ms", None) for event in events]
        ends = [getattr(event, "audio_end_ms", None) for event in events]
        assert [ms for ms in starts if ms is not None] == pytest.approx([500, 3500], abs=40)
        assert [ms for ms in ends if ms is not None] == pytest.approx([2500, 4500], abs=40)
        seconds = [event.usage.seconds for event in events if event.type == COMPLETED]
        assert seconds == pytest.approx([2.8, 1.8], abs=0.1)


async def test_errors_leave_the_session_as_it_is(serving: Serving) -> None:
    """Each has the client's name for what it is about."""
    async with serving() as server, dialled(server) as connection:
        await until(connection, "session.created")
        await connection.input_audio_buffer.commit(event_id="mine")
        (empty,) = await until(connection, "error")
        assert (empty.error.code, empty.error.event_id) == (COMMIT_EMPTY, "mine")
        wrong = session(transcription={"language": "xx"})
        await connection.session.update(session=wrong, event_id="wrong")
        (refused,) = await until(connection, "error")
        assert refused.error.param == "session.audio.input.transcription.language"
        assert refused.error.event_id == "wrong"
        await append(connection, at_rate(SPEECH, 24_000))
        assert len(transcripts(await until(connection, COMPLETED, count=2))) == 2


async def test_a_commit_ends_a_turn_whose_audio_has_stopped(serving: Serving) -> None:
    """And a second one finds nothing."""
    async with serving() as server, dialled(server) as connection:
        await append(connection, at_rate(tone(1.1), 24_000))
        await connection.input_audio_buffer.commit()
        assert heard(await until(connection, COMPLETED), 1)
        await append(connection, at_rate(silence(1), 24_000))
        await connection.input_audio_buffer.commit(event_id="second")
        *_, empty = await until(connection, "error")
        assert (empty.error.code, empty.error.event_id) == (COMMIT_EMPTY, "second")


async def test_a_clear_forgets_what_was_not_committed(serving: Serving) -> None:
    """What comes after it has an item of its own."""
    async with serving() as server, dialled(server) as connection:
        await connection.session.update(session=session(turn_detection=None))
        await append(connection, at_rate(tone(3), 24_000))
        await connection.input_audio_buffer.clear()
        await append(connection, at_rate(np.concatenate([silence(0.5), tone(1)]), 24_000))
        await connection.input_audio_buffer.commit()
        events = await until(connection, COMPLETED)
        assert "input_audio_buffer.cleared" in [event.type for event in events]
        (text,) = transcripts(events)
        assert 4 <= len(text.split()) <= 6


async def test_a_model_that_fails_costs_one_turn(serving: Serving, engine: FakeEngine) -> None:
    """Told under its item; the next one is transcribed as ever."""

    def fail(request: StepRequest) -> None:
        if request.segment_id == 1:
            raise ModelError("the model failed")

    engine.hook = fail
    async with serving() as server, dialled(server) as connection:
        await append(connection, at_rate(SPEECH, 24_000))
        events = await until(connection, COMPLETED)
        (failed,) = [event for event in events if event.type == FAILED]
        assert failed.error.code == "model_failed"
        began = [event for event in events if event.type == "input_audio_buffer.speech_started"]
        assert failed.item_id == began[0].item_id
        assert events[-1].item_id == began[1].item_id


async def test_terms_arrive(serving: Serving, engine: FakeEngine) -> None:
    """Keywords and prompt are the session's glossary, and change with an update."""
    async with serving() as server, dialled(server) as connection:
        first = session(transcription={"keywords": ["apixaban"], "prompt": "INR, warfarin"})
        await connection.session.update(session=first)
        await append(connection, at_rate(tone(1), 24_000))
        await until(connection, "input_audio_buffer.speech_started")
        (state,) = engine.sessions.values()
        assert list(state.terms) == ["apixaban", "INR", "warfarin"]
        await connection.session.update(session=session(transcription={"keywords": ["edoxaban"]}))
        await until(connection, "session.updated")
        await append(connection, at_rate(SPEECH, 24_000))
        await until(connection, COMPLETED, count=2)
        assert list(state.terms) == ["INR", "warfarin", "edoxaban"]


async def test_a_glossary_of_the_server_by_name(
    serving: Serving, engine: FakeEngine, tmp_path: Path
) -> None:
    """The package passes a field on that it does not know."""
    (tmp_path / "ward.txt").write_text("apixaban\nwarfarin\n")
    async with serving(glossaries={"ward": tmp_path / "ward.txt"}) as server:
        async with dialled(server) as connection:
            chosen = {"glossary_id": "ward", "keywords": ["INR"]}
            await connection.session.update(session=session(transcription=chosen))
            await append(connection, at_rate(tone(1), 24_000))
            await until(connection, "input_audio_buffer.speech_started")
            (state,) = engine.sessions.values()
            assert list(state.terms) == ["apixaban", "warfarin", "INR"]


async def test_the_client_comes_back_to_a_full_server(serving: Serving) -> None:
    """It is closed with 1013, waits, and gets in once there is a place."""
    async with serving(max_sessions=1) as server:
        tries: list[int] = []
        refused = asyncio.Event()

        def again(event: ReconnectingEvent) -> None:
            tries.append(event.close_code)
            if event.attempt > 1:
                refused.set()

        async with dialled(server) as first:
            await until(first, "session.created")
            second = dialled(
                server,
                on_reconnecting=again,
                initial_delay=0.05,
                max_delay=0.2,
                max_retries=50,
            )
            async with second as connection:
                arriving = asyncio.create_task(anext(aiter(connection)))
                async with asyncio.timeout(10):
                    await refused.wait()
                    await first.close()
                    created = await arriving
                assert created.type == "session.created"
        assert set(tries) == {1013}


async def test_finals_come_before_the_server_stops(serving: Serving) -> None:
    """Then it closes with 1012, after which the client would come back."""
    async with serving() as server, dialled(server) as connection:
        await append(connection, at_rate(tone(2), 24_000))
        events = await until(connection, DELTA)
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    events.append(await connection.recv())
        await stopping
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
    assert deltas(events) == transcripts(events) != []


async def test_audio_that_is_under_way_when_the_server_stops(
    serving: Serving, engine: FakeEngine
) -> None:
    """Comes too late, and does no harm to the transcript that is still being made."""
    engine.step_s = 0.5
    async with serving() as server, dialled(server) as connection:
        await append(connection, at_rate(tone(2), 24_000))
        events = await until(connection, "input_audio_buffer.speech_started")
        stopping = asyncio.create_task(server.stop())
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await append(connection, at_rate(tone(0.1), 24_000))
                    events.append(await connection.recv())
        await stopping
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
    assert deltas(events) == transcripts(events) != []


async def test_a_key_in_the_header(serving: Serving, tmp_path: Path) -> None:
    """As the package sends it; without the right one there is no connection."""
    key = new_key("meeting")
    write_keys(tmp_path / "keys.json", [key.record])
    async with serving(keys_file=tmp_path / "keys.json") as server:
        async with dialled(server, key=key.secret) as connection:
            await until(connection, "session.created")
        with pytest.raises(InvalidStatus) as refused:
            async with dialled(server, key="wrong"):
                pass
        assert refused.value.response.status_code in (401, 403)
