"""Deepgram's live interface on real weights: Opus and PCM read the same, keyterms are heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
import websockets

from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from streaming.demo import RECORDING
from streaming.server import running
from streaming.settings import ServerSettings
from tests.streaming.recordings import opus_packets
from tests.streaming.signals import pcm, silence

PCM = {"encoding": "linear16", "sample_rate": 16_000}
OPUS = {"encoding": "opus", "sample_rate": 48_000}


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Whisper base and the shipped retriever."""
    return Engine.load(EngineSettings(device="cpu", workers=1))


@pytest.fixture(scope="module")
def recording() -> Samples:
    """The ward round and a second of silence, float32 [n] at 16 kHz."""
    samples, rate_hz = soundfile.read(RECORDING.audio, dtype="float32")
    return np.concatenate([soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ), silence(1)])


async def heard(engine: Engine, messages: Sequence[bytes], **query: Any) -> list[dict[str, Any]]:
    """Everything a client is told that sends as fast as it may."""
    asked = urlencode({"model": "nova-3", **query}, doseq=True)
    async with running(ServerSettings.load(port=0), engine) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/listen?{asked}"
        async with asyncio.timeout(100), websockets.connect(url) as socket:
            for message in messages:
                await socket.send(message)
            await socket.send('{"type": "CloseStream"}')
            return [json.loads(text) async for text in socket]


def said(messages: list[dict[str, Any]]) -> str:
    """The finals' text."""
    finals = [message for message in messages if message.get("is_final")]
    return " ".join(final["channel"]["alternatives"][0]["transcript"] for final in finals)


def plain(text: str) -> str:
    """Words without case and punctuation."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@pytest.mark.slow
async def test_opus_reads_as_pcm_does_and_keyterms_are_heard(
    engine: Engine, recording: Samples
) -> None:
    """Opus at 48 kHz and s16le at 16 kHz; with the drugs as keyterms, and without them."""
    audio = pcm(recording)
    blocks = [audio[at : at + 3200] for at in range(0, len(audio), 3200)]
    keyterms = list(RECORDING.terms)
    without = said(await heard(engine, blocks, **PCM))
    told = await heard(engine, blocks, **PCM, keyterm=keyterms)
    by_pcm = said(told)
    by_opus = said(await heard(engine, opus_packets(recording), **OPUS, keyterm=keyterms))
    # The codec is lossy, and how often a segment is read depends on how busy the machine is: both
    # may tip the balance of a word. Letters alone, as "a pixaban" says what "apixaban" says.
    one, other = (plain(text).replace(" ", "") for text in (by_pcm, by_opus))
    assert jiwer.cer(one, other) < 0.02, (by_pcm, by_opus)
    right = {term for term in RECORDING.terms if term in by_pcm.lower()}
    right_without = {term for term in RECORDING.terms if term in without.lower()}
    assert len(right) >= 4 and right > right_without, (by_pcm, without)
    assert jiwer.wer(plain(RECORDING.text), plain(by_pcm)) <= 0.1, by_pcm
    words = [
        word
        for message in told
        if message.get("is_final")
        for word in message["channel"]["alternatives"][0]["words"]
    ]
    assert " ".join(word["punctuated_word"] for word in words) == by_pcm
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert len({word["confidence"] for word in words}) > 10
    assert told[-1]["type"] == "Metadata"
    assert told[-1]["duration"] == pytest.approx(len(recording) / SAMPLE_RATE_HZ, abs=0.01)
