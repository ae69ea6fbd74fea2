"""Captions written by an OpenAI-compatible server, through `a2p serve` and through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from a2p_engine import glossary, models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.engine import Engine, EngineSettings
from clients.audio import stream_file
from clients.client import CaptionClient
from clients.events import Final, Partial
from streaming.bench.whisper_server import WhisperServer
from streaming.cli.local_server import local_server
from streaming.offline import transcribe

DATA = Path(__file__).parents[2] / "examples" / "data"
RECORDING, GLOSSARY = DATA / "ward_round.flac", DATA / "medical_terms.txt"
TERMS = {"empagliflozin", "rosuvastatin", "warfarin"}


@pytest.fixture
def whisper() -> Iterator[str]:
    """Base URL of Whisper base behind OpenAI's interfaces."""
    server = WhisperServer(WhisperEncoder(models.find("whisper-base"), device="cpu"))
    with server.serving() as url:
        yield url


async def captions(url: str) -> list[Partial | Final]:
    """What a client is shown of the ward round, sent as it was spoken."""
    async with CaptionClient(url, glossary="ward") as client:
        source = stream_file(RECORDING)
        return [each async for each in client.caption(source) if isinstance(each, Partial | Final)]


@pytest.mark.slow
@pytest.mark.parametrize("interface", ["chat", "transcriptions"])
def test_the_ward_round_is_captioned_live(
    whisper: str, interface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms are right, partials come, and what is committed stays."""
    monkeypatch.setenv("A2P_OPENAI_BASE_URL", whisper)
    monkeypatch.setenv("A2P_OPENAI_MODEL", "whisper-1")
    monkeypatch.setenv("A2P_OPENAI_INTERFACE", interface)
    monkeypatch.setenv("A2P_OPENAI_PARTIAL_TIMEOUT_S", "20")  # the machine may be busy
    options = ["--speech-llm", "openai", "--glossary", f"ward={GLOSSARY}"]
    with local_server(options) as url:
        shown = asyncio.run(captions(url))
    finals = [each for each in shown if isinstance(each, Final)]
    written = {term.term for final in finals for term in final.terms if term.used}
    assert written >= TERMS
    assert all(term in " ".join(final.text for final in finals) for term in written)
    for final in finals:
        partials = [
            each
            for each in shown
            if isinstance(each, Partial) and each.segment_id == final.segment_id
        ]
        assert partials
        assert all(final.text.startswith(partial.committed) for partial in partials)


@pytest.mark.slow
def test_this_projects_own_server_can_write_the_captions() -> None:
    """The engine here retrieves and prompts; there the told terms are held against the audio."""
    with local_server([]) as url:
        address = url.replace("ws://", "http://").removesuffix("/ws") + "/v1"
        options = {"base_url": address, "model": "whisper-1", "final_timeout_s": 100}
        engine = Engine.load(
            EngineSettings(speech_llm="openai", device="cpu", workers=1, options=options)
        )
        finals = transcribe(engine, read_audio(RECORDING), glossary=glossary.load(GLOSSARY).terms)
    written = {hit.term for final in finals for hit in final.terms if hit.used}
    assert written >= {"empagliflozin", "rosuvastatin"}
    words = [word for final in finals for word in final.words]
    assert all(0 < word.probability <= 1 for word in words)
    assert {word.probability for word in words} != {1.0}
