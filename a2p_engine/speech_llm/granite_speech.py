"""Granite Speech 4.1 through transformers: six languages, keywords in the question.

Its card asks for one of a few wordings. That for keywords ("transcribe the speech to text.
Keywords: ...") is one of those without punctuation and capitals; captions want both, and a text
that does not change its form when terms come and go. So keywords stand before the wording that
gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import GraniteSpeechForConditionalGeneration

from a2p_engine.encoders.base import Device
from a2p_engine.encoders.granite_speech import GraniteSpeechEncoder
from a2p_engine.errors import InputError, ModelError
from a2p_engine.prompt import PromptTemplate
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.chat import AudioChat, Conversation, harmless, heard
from a2p_engine.speech_llm.pretrained import (
    find_pretrained,
    load_pretrained,
    load_tokenizer,
)
from a2p_engine.types import Task

NAME = "granite-speech-4.1-2b"
REPOSITORY = "ibm-granite/granite-speech-4.1-2b"
# The card's; translations go from English or into it.
LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "ja": "Japanese",
    "pt": "Portuguese",
}
TERMS = PromptTemplate(opening="Keywords: ", closing=". ")
END_OF_TEXT = "<|end_of_text|>"
UNKNOWN_LANGUAGE = "und"  # BCP 47


def question(task: Task, language: str, target: str) -> str:
    """What is asked of the audio, in the card's words.

    Args:
        task: transcribe or translate.
        language: ISO 639-1 code of the audio, or ``auto``.
        target: code of the language to translate into.

    Raises:
        InputError: the model does not translate between these languages.
    """
    form = "with proper punctuation and capitalization."
    if task == "transcribe":
        return f"transcribe the speech {form}"
    if target not in LANGUAGES or ("en" not in (target, language) and language != "auto"):
        raise InputError(
            f"{NAME} translates from English or into it, and knows {', '.join(LANGUAGES)}: "
            f"not {language} into {target}"
        )
    return f"translate the speech to {LANGUAGES[target]} {form}"


def conversation(asked: str, terms: str) -> Conversation:
    """The chat around the audio.

    Args:
        asked: the question.
        terms: what is told of terms, empty where there is nothing to tell.
    """
    return Conversation(
        before="USER: ",
        told=f"{harmless(terms)}{asked}\n ASSISTANT:",
        untold=f"{asked}\n ASSISTANT:",
    )


class GraniteSpeechSpeechLLM:
    """Greedy decoding with keywords in the question; times of words are estimates."""

    languages = tuple(LANGUAGES)
    target_languages = tuple(LANGUAGES)
    retriever_weights = ""  # none is shipped
    retriever_languages: tuple[str, ...] = ()

    def __init__(
        self,
        model: GraniteSpeechForConditionalGeneration,
        tokenizer: Tokenizer,
        encoder: GraniteSpeechEncoder,
        *,
        name: str = NAME,
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
        self._chat = AudioChat.of(model, tokenizer, end=END_OF_TEXT, trace=encoder.trace)

    @classmethod
    def load(
        cls, directory: Path, device: Device, *, name: str = NAME
    ) -> tuple[GraniteSpeechEncoder, GraniteSpeechSpeechLLM]:
        """Load a checkpoint and share it between encoder and speech LLM.

        Args:
            directory: holds config.json, tokenizer.json and safetensors files.
            device: ``cpu``, ``cuda`` or ``auto``.
            name: the model's name.

        Raises:
            ModelError: files are missing or damaged, or an adapter would have to be loaded.
        """
        tokenizer = load_tokenizer(directory)
        model = load_pretrained(GraniteSpeechForConditionalGeneration, directory, device)
        config: Any = model.config
        if config.has_lora_adapter:
            raise ModelError(f"{directory} needs an adapter (LoRA); {NAME} is one that does not")
        encoder = GraniteSpeechEncoder(model.model, name=name)
        return encoder, cls(model, tokenizer, encoder, name=name)

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """See ``SpeechLLM.decode``.

        Raises:
            InputError: the model does not translate between these languages.
            ModelError: the audio was encoded by another model.
        """
        audio = heard(request, self.name)
        task, language = request.task, request.language
        asked = question(task, language, request.target_language)
        words, prompt = self._chat.answer(
            request, audio, lambda terms: conversation(asked, terms), TERMS
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


def load(
    name: str, device: Device, workers: int
) -> tuple[GraniteSpeechEncoder, GraniteSpeechSpeechLLM]:
    """For the table of speech LLMs; ``workers`` share one model, whose work goes in batches."""
    return GraniteSpeechSpeechLLM.load(find_pretrained(name, REPOSITORY), device, name=name)
