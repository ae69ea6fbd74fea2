"""Qwen3-ASR (arXiv 2601.21337) through transformers: speech recognition in 30 languages.

It takes no orders. The system message is context of any form, here the terms; the user's turn is
the audio alone; the answer names the language before the text, "language English<asr_text>", and
is told it by an answer that begins so already. Without a language the model is asked for it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import Qwen3ASRForConditionalGeneration

from a2p_engine.encoders.base import AudioEmbeddings, Device
from a2p_engine.encoders.qwen3_asr import Qwen3ASREncoder
from a2p_engine.errors import InputError
from a2p_engine.prompt import PromptTemplate
from a2p_engine.speech_llm import chat
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis
from a2p_engine.speech_llm.openai_templates import ASR_TEXT, LANGUAGES
from a2p_engine.speech_llm.pretrained import (
    find_pretrained,
    load_pretrained,
    load_tokenizer,
)

# The files that transformers reads end in -hf; those without it are for the authors' own package.
REPOSITORIES = {
    "qwen3-asr-1.7b": "Qwen/Qwen3-ASR-1.7B-hf",
    "qwen3-asr-0.6b": "Qwen/Qwen3-ASR-0.6B-hf",
}
# The card gives examples of any form; a list is the shortest.
TERMS = PromptTemplate()
CODES = {name: code for code, name in LANGUAGES.items()}
END_OF_TURN = "<|im_end|>"
UNKNOWN_LANGUAGE = "und"  # BCP 47
# "language", one to three for its name, and what ends the name.
LANGUAGE_TOKENS = 6


def conversation(terms: str, beginning: str) -> chat.Conversation:
    """The chat around the audio, special tokens included.

    Args:
        terms: what is told of terms, empty where there is nothing to tell.
        beginning: how the answer begins.
    """

    def before(context: str) -> str:
        return f"<|im_start|>system\n{context}{END_OF_TURN}\n<|im_start|>user\n<|audio_start|>"

    behind = f"<|audio_end|>{END_OF_TURN}\n<|im_start|>assistant\n{beginning}"
    return chat.Conversation(
        before=before(harmless(terms)), told=behind, untold=behind, untold_before=before("")
    )


def answer_beginning(language: str) -> str:
    """What tells the model the language.

    Args:
        language: its English name, as the model was trained with.
    """
    return f"language {language}{ASR_TEXT}"


def harmless(text: str) -> str:
    """Somebody's text without what would end a turn or begin an answer."""
    return chat.harmless(text).replace(ASR_TEXT, "< asr_text>")


class Qwen3ASRSpeechLLM:
    """Greedy decoding with terms in the system message; times of words are estimates."""

    languages = tuple(LANGUAGES)
    target_languages: tuple[str, ...] = ()
    retriever_weights = ""  # none is shipped
    retriever_languages: tuple[str, ...] = ()

    def __init__(
        self,
        model: Qwen3ASRForConditionalGeneration,
        tokenizer: Tokenizer,
        encoder: Qwen3ASREncoder,
        *,
        name: str = "qwen3-asr-1.7b",
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
        self._chat = chat.AudioChat.of(model, tokenizer, end=END_OF_TURN, trace=encoder.trace)

    @classmethod
    def load(
        cls, directory: Path, device: Device, *, name: str = "qwen3-asr-1.7b"
    ) -> tuple[Qwen3ASREncoder, Qwen3ASRSpeechLLM]:
        """Load a checkpoint and share it between encoder and speech LLM.

        Args:
            directory: holds config.json, tokenizer.json and safetensors files.
            device: ``cpu``, ``cuda`` or ``auto``.
            name: the model's name.

        Raises:
            ModelError: files are missing or damaged.
        """
        tokenizer = load_tokenizer(directory)
        model = load_pretrained(Qwen3ASRForConditionalGeneration, directory, device)
        encoder = Qwen3ASREncoder(model.model, name=name)
        return encoder, cls(model, tokenizer, encoder, name=name)

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """See ``SpeechLLM.decode``.

        Raises:
            InputError: a translation is asked for.
            ModelError: the audio was encoded by another model.
        """
        if request.task != "transcribe":
            raise InputError(f"{self.name} transcribes; it does not translate")
        audio = chat.heard(request, self.name)
        name = self._language(audio, request.language)
        beginning = answer_beginning(name) if name else ""
        words, prompt = self._chat.answer(
            request, audio, lambda terms: conversation(terms, beginning), TERMS
        )
        code = CODES.get(name, UNKNOWN_LANGUAGE)
        return Hypothesis(words=words, language=code, prompt=prompt, estimated_times=True)

    def _language(self, audio: AudioEmbeddings, language: str) -> str:
        """The language's name; what the model hears where none is given, empty if it says none."""
        if language in LANGUAGES:
            return LANGUAGES[language]
        if not len(audio.rows):
            return ""
        if ASR_TEXT not in audio.kept:
            said = self._chat.begin(audio, conversation("", ""), LANGUAGE_TOKENS)
            name, marker, _ = said.partition(ASR_TEXT)
            audio.kept[ASR_TEXT] = name.removeprefix("language").strip() if marker else ""
        heard: str = audio.kept[ASR_TEXT]
        return heard

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``SpeechLLM.tokenize``."""
        return self._chat.tokenize(texts)

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """See ``SpeechLLM.token_embeddings``."""
        return self._chat.token_embeddings()


def load(name: str, device: Device, workers: int) -> tuple[Qwen3ASREncoder, Qwen3ASRSpeechLLM]:
    """For the table of speech LLMs; ``workers`` share one model, whose work goes in batches."""
    directory = find_pretrained(name, REPOSITORIES[name])
    return Qwen3ASRSpeechLLM.load(directory, device, name=name)
