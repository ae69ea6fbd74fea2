"""Captions written by an OpenAI-compatible server: vLLM, another one, or this project's own.

Encoder and retriever stay here: Whisper base hears for the retriever, and the server gets audio,
terms and committed text anew in each request, so it keeps no state of ours. A guard that decodes
again makes another request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from a2p_engine.encoders import Device, Encoder, build_encoder
from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.errors import ModelError
from a2p_engine.prompt import Prompt, build_prompt
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, TimedWord
from a2p_engine.speech_llm.continuation import joined, realigned
from a2p_engine.speech_llm.openai_chat import Chat
from a2p_engine.speech_llm.openai_http import Deadline, OpenAIServer
from a2p_engine.speech_llm.openai_interfaces import Interface
from a2p_engine.speech_llm.openai_replies import Reply, text_of, timed_words
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.openai_templates import Question
from a2p_engine.speech_llm.openai_transcriptions import Transcriptions
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import SAMPLE_RATE_HZ

log = logging.getLogger(__name__)

ENCODER = "whisper-base"
# OpenAI takes no shorter files.
LEAST_SAMPLES = SAMPLE_RATE_HZ // 10


class OpenAISpeechLLM:
    """Asks a server; tells the language itself where it is to be found out."""

    max_samples = WhisperSpeechLLM.max_samples
    retriever_weights = WhisperSpeechLLM.retriever_weights
    retriever_languages = WhisperSpeechLLM.retriever_languages

    def __init__(
        self,
        local: WhisperSpeechLLM,
        settings: OpenAISettings,
        *,
        server: OpenAIServer | None = None,
        name: str = "openai",
    ) -> None:
        """Connect to nothing yet.

        Args:
            local: Whisper, for what the retriever needs and for detecting the language.
            settings: the server and how it is asked.
            server: the client, for tests.
            name: as in ``SPEECH_LLMS``.
        """
        self.name = name
        self._local, self._settings = local, settings
        interface = Chat if settings.asks == "chat" else Transcriptions
        self._interface: Interface = interface(settings, server or OpenAIServer(settings))
        self.languages = self._interface.languages or local.languages
        self.target_languages = self._interface.target_languages

    def decode(self, request: DecodeRequest) -> Hypothesis:
        """See ``SpeechLLM.decode``.

        Raises:
            ModelUnavailable: the server gave no good answer in time; it may the next time.
            ModelError: it is no such server, or refuses the request.
        """
        language = request.language
        if language == "auto":
            language = self._local.detect(request)
        prompt = build_prompt(
            request.terms,
            budget_tokens=self._interface.prompt_tokens,
            count_tokens=lambda text: len(self._local.tokenize([text])[0]),
            wording=partial(self._interface.wording, request.task),
            sources=request.sources if self._interface.pairs else (),
        )
        reply = self._ask(request, language, prompt)
        return Hypothesis(
            words=_words(reply, request),
            language=request.target_language if request.task == "translate" else language,
            prompt=prompt,
            estimated_times=not reply.spans,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``SpeechLLM.tokenize``: Whisper's, as the retriever's."""
        return self._local.tokenize(texts)

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """See ``SpeechLLM.token_embeddings``: Whisper's, as the retriever's."""
        return self._local.token_embeddings()

    def _ask(self, request: DecodeRequest, language: str, prompt: Prompt) -> Reply:
        if len(request.samples) < LEAST_SAMPLES:
            return Reply(tokens=())
        settings = self._settings
        within_s = settings.final_timeout_s if request.final else settings.partial_timeout_s
        question = Question(
            task=request.task,
            language=language,
            target=request.target_language,
            told=prompt.text,
            context=request.context,
        )
        until = Deadline.after(within_s, request.asked_at)
        return self._interface.ask(question, request.samples, request.committed, until)


def _words(reply: Reply, request: DecodeRequest) -> tuple[TimedWord, ...]:
    """The words of the whole window; they begin with the committed text."""
    committed, samples = request.committed, request.samples
    if not reply.continues:
        return realigned(timed_words(reply.tokens, reply.spans, samples), committed)
    text = text_of(reply.tokens)
    space = joined(committed, text)[len(committed) : len(joined(committed, text)) - len(text)]
    begun = (committed + space).encode(), 1.0  # the server gives no probability of it
    return timed_words((begun, *reply.tokens), (), samples)


def load(
    name: str, device: Device, workers: int, options: Mapping[str, Any] | None = None
) -> tuple[Encoder, OpenAISpeechLLM]:
    """Whisper's encoder and the client; the server is not asked yet.

    Args:
        name: of the speech LLM.
        device: of the encoder.
        workers: windows encoded at the same time.
        options: settings, for what the environment does not say.

    Raises:
        InputError: a setting is missing or unusable.
        ModelError: weights of the encoder are missing.
    """
    settings = OpenAISettings.load(options)
    encoder = build_encoder(ENCODER, device, workers)
    if not isinstance(encoder, WhisperEncoder):
        raise ModelError(f"speech LLM {name!r} retrieves from frames of {ENCODER} only")
    log.info("captions are written by %s at %s", settings.model, settings.base_url)
    return encoder, OpenAISpeechLLM(WhisperSpeechLLM(ENCODER, encoder), settings, name=name)
