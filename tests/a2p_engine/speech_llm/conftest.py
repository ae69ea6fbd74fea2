"""A real OpenAI-compatible server, shared by the tests that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from a2p_engine import models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.types import SAMPLE_RATE_HZ, Samples
from tests.a2p_engine.speech_llm.openai_peer import Peer, serving

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"


@pytest.fixture(scope="session")
def whisper() -> WhisperEncoder:
    """Whisper base."""
    return WhisperEncoder(models.find("whisper-base"), device="cpu")


@pytest.fixture(scope="session")
def openai_server(whisper: WhisperEncoder) -> Iterator[Peer]:
    """One server for all tests."""
    with serving(whisper) as peer:
        yield peer


@pytest.fixture
def peer(openai_server: Peer) -> Peer:
    """The server, as if just started."""
    openai_server.reset()
    return openai_server


@pytest.fixture(scope="session")
def audio() -> Samples:
    """The first sentence of the ward round."""
    return read_audio(RECORDING)[: 5 * SAMPLE_RATE_HZ]
