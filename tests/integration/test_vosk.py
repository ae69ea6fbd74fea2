"""Vosk's protocol on real weights: the words come out right, in order, where they were said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
import websockets

from a2p_engine.engine import Engine, EngineSettings
from streaming.demo import RECORDING
from streaming.server import running
from streaming.settings import ServerSettings

DATA = Path(__file__).parents[2] / "examples" / "data"
PHONE_HZ = 8_000


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


async def _results(url: str, config: dict[str, Any], audio: bytes, frame: int) -> list[Any]:
    """All replies of a client in lock step, then the last message."""
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"config": config}))
        replies = []
        for at in range(0, len(audio), frame):
            await socket.send(audio[at : at + frame])
            replies.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        replies.append(json.loads(await socket.recv()))
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()
    return replies


@pytest.mark.slow
@pytest.mark.parametrize(("rate_hz", "most_errors"), [(16_000, 0.1), (PHONE_HZ, 0.2)])
async def test_a_ward_round(engine: Engine, rate_hz: int, most_errors: float) -> None:
    """Text, word times and glossary terms, over a good line and over a telephone's."""
    samples, own_rate_hz = soundfile.read(DATA / "ward_round.flac", dtype="float32")
    resampled = soxr.resample(samples, own_rate_hz, rate_hz)
    audio = (np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes()
    config = {"sample_rate": rate_hz, "phrase_list": [*RECORDING.terms, "[unk]"]}
    async with running(ServerSettings.load(port=0, vosk_port=0), engine) as server:
        async with asyncio.timeout(100):
            replies = await _results(server.vosk_url, config, audio, 3200)
    said = " ".join(reply["text"] for reply in replies if reply.get("text"))
    words = [word for reply in replies for word in reply.get("result", [])]
    assert said.split() == [part for word in words for part in word["word"].split()]
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert all(0 <= word["start"] <= word["end"] <= len(samples) / own_rate_hz for word in words)
    assert all(0 < word["conf"] <= 1 for word in words)
    assert _word_errors(RECORDING.text, said) <= most_errors, said
    assert sum(term in said.lower() for term in RECORDING.terms) >= 4, said


def _word_errors(reference: str, hypothesis: str) -> float:
    def plain(text: str) -> str:
        return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())

    return float(jiwer.wer(plain(reference), plain(hypothesis)))
