"""Speech LLMs write the caption; a new one is one file and one line in ``SPEECH_LLMS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from a2p_engine import models
from a2p_engine.encoders import Device, Encoder, build_encoder
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import InputError, ModelError
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, SpeechLLM, TimedWord
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM

__all__ = [
    "SPEECH_LLMS",
    "DecodeRequest",
    "Hypothesis",
    "SpeechLLM",
    "TimedWord",
    "build_speech_llm",
]


OPENAI = "openai"


def _whisper(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    encoder = build_encoder(name, device, workers)
    if not isinstance(encoder, WhisperEncoder):
        raise ModelError(f"speech LLM {name!r} decodes from a Whisper encoder only")
    return encoder, WhisperSpeechLLM(name, encoder)


def _whisper_transformers(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    from a2p_engine.encoders.whisper_transformers import WhisperTransformersEncoder

    directory = models.find(name.removesuffix("-transformers"))
    encoder = WhisperTransformersEncoder(directory, name=name, device=device)
    return encoder, WhisperSpeechLLM(name, encoder)


def _qwen2_audio(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    from a2p_engine.speech_llm import qwen2_audio

    return qwen2_audio.load(name, device, workers)


def _qwen3_asr(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    from a2p_engine.speech_llm import qwen3_asr

    return qwen3_asr.load(name, device, workers)


def _granite_speech(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    from a2p_engine.speech_llm import granite_speech

    return granite_speech.load(name, device, workers)


def _openai(
    name: str, device: Device, workers: int, options: Mapping[str, Any] | None = None
) -> tuple[Encoder, SpeechLLM]:
    from a2p_engine.speech_llm import openai_server

    return openai_server.load(name, device, workers, options)


# Names are those of the weights; a suffix names another form of them (-4bit) or another library.
SPEECH_LLMS: dict[str, Callable[[str, Device, int], tuple[Encoder, SpeechLLM]]] = {
    "whisper-base": _whisper,
    "whisper-base-transformers": _whisper_transformers,
    "qwen2-audio": _qwen2_audio,
    "qwen2-audio-4bit": _qwen2_audio,
    "qwen3-asr-1.7b": _qwen3_asr,
    "qwen3-asr-0.6b": _qwen3_asr,
    "granite-speech-4.1-2b": _granite_speech,
    OPENAI: _openai,
}


def build_speech_llm(
    name: str, device: Device, workers: int, options: Mapping[str, Any] | None = None
) -> tuple[Encoder, SpeechLLM]:
    """Load a speech LLM and the encoder whose frames it shares with the retriever.

    Args:
        name: one of ``SPEECH_LLMS``.
        device: where they run.
        workers: windows at the same time.
        options: settings of the speech LLM's own.

    Raises:
        InputError: an option is unknown or unusable.
        ModelError: the name is unknown, or the weights are missing or damaged.
    """
    if name not in SPEECH_LLMS:
        raise ModelError(f"unknown speech LLM {name!r}; known are {', '.join(SPEECH_LLMS)}")
    if name == OPENAI:
        return _openai(name, device, workers, options)
    if options:
        raise InputError(f"the speech LLM {name!r} has no settings of its own: {min(options)!r}")
    return SPEECH_LLMS[name](name, device, workers)
