"""``/chat/completions`` of OpenAI-compatible servers, with audio in the user's message."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import httpx
from pydantic import BaseModel

from a2p_engine.speech_llm.openai_http import (
    Deadline,
    OpenAIServer,
    PassingError,
    check_type,
    is_stream,
    read_events,
    read_json,
)
from a2p_engine.speech_llm.openai_interfaces import Choice, Options, parsed, pieces
from a2p_engine.speech_llm.openai_replies import (
    Reply,
    after,
    most_characters,
    text_of,
    tokens_of,
    wav,
)
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.openai_templates import LANGUAGES, Question, Template, template
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Task

# Fast speech is about 5 tokens a second, of Chinese a few more.
TOKENS_PER_S = 12
SPARE_TOKENS = 32


class _Completion(BaseModel):
    choices: list[Choice]


class Chat:
    """``/chat/completions`` with the audio as a part of the user's message, read as a stream."""

    pairs = True

    def __init__(self, settings: OpenAISettings, server: OpenAIServer) -> None:
        """Choose the wording."""
        self._model, self._server = settings.model, server
        self._template: Template = template(settings.wording)
        continues = self._template.continues if settings.continues is None else settings.continues
        self._options = Options(*["continue_final_message"] * continues, "logprobs")
        self.languages = self._template.languages
        into = self.languages or tuple(LANGUAGES)
        self.target_languages = into if self._template.translates else ()
        asked = settings.prompt_tokens
        self.prompt_tokens = self._template.prompt_tokens if asked is None else asked

    def wording(self, task: Task, terms: Sequence[str]) -> str:
        """See ``Interface.wording``."""
        return self._template.wording[task](terms)

    def ask(self, question: Question, samples: Samples, committed: str, until: Deadline) -> Reply:
        """See ``Interface.ask``."""
        audio = base64.b64encode(wav(samples)).decode()
        most = most_characters(samples)

        def attempt(options: Sequence[str]) -> Reply:
            opens = "continue_final_message" in options and bool(
                committed or self._template.beginning(question)
            )
            messages = self._template.messages(question, audio, committed if opens else None)
            body = {
                "model": self._model,
                "messages": messages,
                "temperature": 0,
                "max_completion_tokens": _most_tokens(samples),
                "stream": True,
                "logprobs": "logprobs" in options,
            }
            if opens:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
            choices = self._server.post(
                "/chat/completions", lambda response: _choices(response, most), until, json=body
            )
            return self._reply(choices, committed if opens else "")

        return self._options.negotiate(attempt)

    def _reply(self, choices: Sequence[Choice], begun: str) -> Reply:
        text = "".join(choice.text for choice in choices)
        told = [
            each for choice in choices if choice.logprobs for each in choice.logprobs.content or ()
        ]
        tokens = tokens_of(text, pieces(told))
        if self._template.marker:
            tokens = after(tokens, self._template.marker)
        # Some servers repeat the beginning that they were given.
        continues = bool(begun) and not text_of(tokens).startswith(begun)
        return Reply(tokens=tokens, continues=continues)


def _choices(response: httpx.Response, most_characters: int) -> list[Choice]:
    """The first choice in pieces, up to a text that is too long to be true."""
    check_type(response, "text/event-stream", "application/json")
    if not is_stream(response):
        return parsed(_Completion, read_json(response)).choices[:1]
    found: list[Choice] = []
    for event in read_events(response):
        found += parsed(_Completion, event).choices[:1]
        if sum(len(choice.text) for choice in found) > most_characters:
            return found
    if not any(choice.finish_reason for choice in found):
        raise PassingError("ended its answer before it was complete")
    return found


def _most_tokens(samples: Samples) -> int:
    return int(TOKENS_PER_S * len(samples) / SAMPLE_RATE_HZ) + SPARE_TOKENS
