"""Real weights on a GPU; docs/models.md has the commands that bring and run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from a2p_engine import models
from a2p_engine.audio import read_audio
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.speech_llm.base import DecodeRequest
from a2p_engine.text import plain
from a2p_engine.types import Samples

pytestmark = pytest.mark.gpu

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Ten seconds of the ward round."""
    return read_audio(RECORDING)[: 10 * HZ]


@pytest.mark.parametrize("name", ["qwen2-audio", "qwen2-audio-4bit"])
def test_qwen2_audio_writes_down_speech(name: str, speech: Samples) -> None:
    """It hears the words, goes on from committed text, and reads audio once per tick."""
    encoder, llm = build_speech_llm(name, "cuda", 1)
    encoded = encoder.encode(speech)
    assert encoded.frames.shape == (250, 4096)
    assert np.isfinite(encoded.frames).all()
    request = DecodeRequest(
        samples=speech,
        encoded=encoded,
        terms=("warfarin", "apixaban"),
        committed="Good morning",
        language="en",
        task="transcribe",
    )
    words = llm.decode(request).words
    text = "".join(word.text for word in words)
    assert text.startswith("Good morning")
    assert {"heart", "switched", "her"} <= set(plain(text).split())
    assert all(0 <= word.probability <= 1 for word in words)


@pytest.mark.parametrize("name", ["qwen3-asr-1.7b", "qwen3-asr-0.6b"])
def test_qwen3_asr_writes_down_speech(name: str, speech: Samples) -> None:
    """It hears words and language, and goes on from committed text."""
    encoder, llm = build_speech_llm(name, "cuda", 1)
    encoded = encoder.encode(speech)
    assert encoded.frames.shape == (125, encoder.width)
    assert np.isfinite(encoded.frames).all()
    request = DecodeRequest(
        samples=speech,
        encoded=encoded,
        terms=("warfarin", "apixaban"),
        committed="Good morning",
        language="auto",
        task="transcribe",
    )
    found = llm.decode(request)
    text = "".join(word.text for word in found.words)
    assert text.startswith("Good morning")
    assert {"heart", "switched", "her"} <= set(plain(text).split())
    assert found.language == "en"


def test_granite_speech_writes_down_speech(speech: Samples) -> None:
    """It hears words, and writes punctuation and capitals with keywords and without."""
    encoder, llm = build_speech_llm("granite-speech-4.1-2b", "cuda", 1)
    encoded = encoder.encode(speech)
    assert encoded.frames.shape == (100, 2048)
    assert np.isfinite(encoded.frames).all()
    for terms in ((), ("warfarin", "apixaban")):
        request = DecodeRequest(
            samples=speech,
            encoded=encoded,
            terms=terms,
            committed="",
            language="en",
            task="transcribe",
        )
        text = "".join(word.text for word in llm.decode(request).words).strip()
        assert {"heart", "switched", "her"} <= set(plain(text).split())
        assert text[0].isupper()
        assert "." in text


def test_whisper_on_cuda_writes_what_it_writes_on_the_cpu(speech: Samples) -> None:
    """Half precision on the GPU: frames within its digits, the same first words."""
    encoder, llm = build_speech_llm("whisper-base-transformers", "cuda", 1)
    encoded = encoder.encode(speech)
    cpu = WhisperEncoder(models.find("whisper-base"), device="cpu", compute_type="float32")
    np.testing.assert_allclose(encoded.frames, cpu.encode(speech).frames, atol=0.3)
    request = DecodeRequest(
        samples=speech, encoded=encoded, terms=(), committed="", language="en", task="transcribe"
    )
    assert "Good morning" in "".join(word.text for word in llm.decode(request).words)
