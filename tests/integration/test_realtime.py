"""The openai package's client against real weights: keywords decide how a name is written."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import numpy as np
import pytest
import soxr
from openai import AsyncOpenAI

from a2p_engine.audio import read_audio
from a2p_engine.engine import Engine, EngineSettings
from streaming.server import Running, running
from streaming.settings import ServerSettings

DATA = Path(__file__).parents[2] / "examples" / "data"
HZ = 24_000
KEYWORDS = ["empagliflozin", "rosuvastatin", "levetiracetam"]
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


def _recording() -> bytes:
    audio = soxr.resample(read_audio(DATA / "ward_round.flac"), 16_000, HZ)
    return (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()


async def _transcribe(server: Running, keywords: list[str]) -> list[str]:
    """The recording as one turn of the client."""
    transcription = {"model": "any", "language": "en", "keywords": keywords}
    audio_input = {"transcription": transcription, "turn_detection": None}
    async with (
        AsyncOpenAI(base_url=f"{server.url}v1", api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        session = {"type": "transcription", "audio": {"input": audio_input}}
        await connection.session.update(session=session)  # type: ignore[arg-type]
        audio = _recording()
        for at in range(0, len(audio), HZ):
            piece = base64.b64encode(audio[at : at + HZ]).decode()
            await connection.input_audio_buffer.append(audio=piece)
        await connection.input_audio_buffer.commit()
        told = ""
        async with asyncio.timeout(100):
            async for event in connection:
                assert event.type != "error"
                if event.type == DELTA:
                    told += event.delta or ""
                if event.type == COMPLETED:
                    assert event.transcript == told
                    return told
    raise AssertionError("the connection ended without a transcript")


@pytest.mark.slow
async def test_a_keyword_corrects_what_the_model_writes(engine: Engine) -> None:
    """Without it the name comes out as it sounds."""
    async with running(ServerSettings.load(port=0), engine) as server:
        plain = await _transcribe(server, [])
        helped = await _transcribe(server, KEYWORDS)
    assert [keyword for keyword in KEYWORDS if keyword in plain] == []
    assert [keyword for keyword in KEYWORDS if keyword in helped] == KEYWORDS
