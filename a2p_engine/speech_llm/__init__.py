"""Speech LLMs write the caption; a new one is one file and one line in ``SPEECH_LLMS``."""

from __future__ import annotations

from collections.abc import Callable

from a2p_engine.encoders import Device, Encoder, build_encoder
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import ModelError
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


def _whisper(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    encoder = build_encoder(name, device, workers)
    if not isinstance(encoder, WhisperEncoder):
        raise ModelError(f"speech LLM {name!r} decodes from a Whisper encoder only")
    return encoder, WhisperSpeechLLM(name, encoder)


SPEECH_LLMS: dict[str, Callable[[str, Device, int], tuple[Encoder, SpeechLLM]]] = {
    "whisper-base": _whisper
}


def build_speech_llm(name: str, device: Device, workers: int) -> tuple[Encoder, SpeechLLM]:
    """Load a speech LLM and the encoder whose frames it shares with the retriever.

    Raises:
        ModelError: the name is unknown, or the weights are missing or damaged.
    """
    if name not in SPEECH_LLMS:
        raise ModelError(f"unknown speech LLM {name!r}; known are {', '.join(SPEECH_LLMS)}")
    return SPEECH_LLMS[name](name, device, workers)
