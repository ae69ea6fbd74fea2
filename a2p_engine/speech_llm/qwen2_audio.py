"""Qwen2-Audio-Instruct, the speech LLM of the paper (arXiv 2508.18701), through transformers.

The wording is that of the published inference code (bytedance/Attention2Probability,
infer/infer.py, Apache-2.0), letter by letter: figures of the paper were measured with it. So "an
Chinese", two blanks in the translation's question, no blank before "Specialized" and none behind
"include:". The frame around it is the chat template of the model's processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import Qwen2AudioForConditionalGeneration

from a2p_engine.encoders.base import Device
from a2p_engine.encoders.qwen2_audio import Qwen2AudioEncoder
from a2p_engine.prompt import PromptTemplate
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.chat import AudioChat, Conversation, harmless, heard
from a2p_engine.speech_llm.pretrained import (
    find_pretrained,
    load_pretrained,
    load_tokenizer,
)
from a2p_engine.types import Task

REPOSITORY = "Qwen/Qwen2-Audio-7B-Instruct"
# The model card of Qwen2-Audio names these; the published code asks for English and Chinese alone.
LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "yue": "Cantonese",
    "zh": "Chinese",
}
SYSTEM: dict[Task, str] = {
    "transcribe": "You are an expert in speech recognition.",
    "translate": "You are an expert in speech translation.",
}
TERMS: dict[Task, PromptTemplate] = {
    "transcribe": PromptTemplate(
        opening="Specialized terminology may appear in the audio. Please accurately recognize "
        "these terms. Potential technical terms include:"
    ),
    "translate": PromptTemplate(
        opening="Specialized terminology may appear in the audio. Please accurately translate "
        "these terms. Potential technical terms include:"
    ),
}
END_OF_TURN = "<|im_end|>"
UNKNOWN_LANGUAGE = "und"  # BCP 47


def question(task: Task, language: str, target: str = "en") -> str:
    """What the user asks besides the audio.

    Args:
        task: transcribe or translate.
        language: ISO 639-1 code of the audio, or ``auto``.
        target: code of the language to translate into.
    """
    said, into = LANGUAGES.get(language), LANGUAGES.get(target, "English")
    if task == "translate":
        opening = f"This is an {said} audio recording.  " if said else ""
        return f"{opening}Please translate this audio into {into} text."
    if said is None:
        return "Please transcribe this audio into text."
    return f"This is an {said} audio recording. Please transcribe this audio into {said} text."


def conversation(task: Task, asked: str, terms: str) -> Conversation:
    """The chat around the audio, special tokens included.

    Args:
        task: transcribe or translate.
        asked: the question.
        terms: what is told of terms, empty where there is nothing to tell.
    """

    def behind(text: str) -> str:
        return f"<|audio_eos|>\n{text}{END_OF_TURN}\n<|im_start|>assistant\n"

    return Conversation(
        before=(
            f"<|im_start|>system\n{SYSTEM[task]}{END_OF_TURN}\n"
            "<|im_start|>user\nAudio 1: <|audio_bos|>"
        ),
        told=behind(asked + harmless(terms)),
        untold=behind(asked),
    )


class Qwen2AudioSpeechLLM:
    """Greedy decoding with terms in the user's question; times of words are estimates."""

    languages = tuple(LANGUAGES)
    target_languages = tuple(LANGUAGES)
    retriever_weights = ""  # none is shipped
    retriever_languages: tuple[str, ...] = ("en", "zh")

    def __init__(
        self,
        model: Qwen2AudioForConditionalGeneration,
        tokenizer: Tokenizer,
        encoder: Qwen2AudioEncoder,
        *,
        name: str = "qwen2-audio",
    ) -> None:
        """Share the loaded model with its encoder.

        Args:
            model: the whole of it.
            tokenizer: its tokenizer.
            encoder: made of the same model; its trace counts for both.
            name: the model's name.

        Raises:
            ModelError: the tokenizer is not of this model.
        """
        self.name = name
        self.max_samples = encoder.max_samples
        self.trace = encoder.trace
        self._chat = AudioChat.of(model, tokenizer, end=END_OF_TURN, trace=encoder.trace)

    @classmethod
    def load(
        cls, directory: Path, device: Device, *, name: str = "qwen2-audio", four_bit: bool = False
    ) -> tuple[Qwen2AudioEncoder, Qwen2AudioSpeechLLM]:
        """Load a checkpoint and share it between encoder and speech LLM.

        Args:
            directory: holds config.json, tokenizer.json and safetensors files.
            device: ``cpu``, ``cuda`` or ``auto``.
            name: the model's name.
            four_bit: keep the language model's weights in four bits.

        Raises:
            ModelError: files are missing or damaged.
        """
        tokenizer = load_tokenizer(directory)
        model = load_pretrained(
            Qwen2AudioForConditionalGeneration, directory, device, four_bit=four_bit
        )
        inner = model.model
        encoder = Qwen2AudioEncoder(inner.audio_tower, inner.multi_modal_projector, name=name)
        return encoder, cls(model, tokenizer, encoder, name=name)

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """See ``SpeechLLM.decode``.

        Raises:
            ModelError: the audio was encoded by another model.
        """
        audio = heard(request, self.name)
        task, language = request.task, request.language
        asked = question(task, language, request.target_language)
        words, prompt = self._chat.answer(
            request,
            audio,
            lambda terms: conversation(task, asked, terms),
            TERMS[task],
            sources=request.sources,
        )
        spoken = UNKNOWN_LANGUAGE if language == "auto" else language
        written = request.target_language if task == "translate" else spoken
        return Hypothesis(words=words, language=written, prompt=prompt, estimated_times=True)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``SpeechLLM.tokenize``."""
        return self._chat.tokenize(texts)

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """See ``SpeechLLM.token_embeddings``."""
        return self._chat.token_embeddings()


def load(name: str, device: Device, workers: int) -> tuple[Qwen2AudioEncoder, Qwen2AudioSpeechLLM]:
    """For the table of speech LLMs; ``workers`` share one model, whose work goes in batches."""
    four_bit = name.endswith("-4bit")
    directory = find_pretrained(name.removesuffix("-4bit"), REPOSITORY)
    return Qwen2AudioSpeechLLM.load(directory, device, name=name, four_bit=four_bit)
