"""The two interfaces by which OpenAI-compatible servers write down audio.

What an implementation of them lacks shows in its refusals: an option that a server does not take is
left out from then on.
"""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from a2p_engine.errors import ModelError
from a2p_engine.prompt import GLOSSARY
from a2p_engine.speech_llm.openai_http import (
    Deadline,
    OpenAIServer,
    PassingError,
    Refused,
    check_type,
    is_stream,
    read_events,
    read_json,
)
from a2p_engine.speech_llm.openai_replies import (
    Reply,
    Span,
    after,
    most_characters,
    text_of,
    tokens_of,
    wav,
)
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.openai_templates import LANGUAGES, Question, Template, template
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Task

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)

# Fast speech is about 5 tokens a second, of Chinese a few more.
TOKENS_PER_S = 12
SPARE_TOKENS = 32
# Whisper's decoder has room for as many before the text, see WhisperSpeechLLM.
WHISPER_PROMPT_TOKENS = 223
UNPROCESSABLE = (400, 422)


class Interface(Protocol):
    """One way to ask.

    Attributes:
        prompt_tokens: most tokens of terms.
        languages: ISO 639-1 codes, None for Whisper's.
        target_languages: codes it may translate into.
    """

    prompt_tokens: int
    languages: tuple[str, ...] | None
    target_languages: tuple[str, ...]

    def wording(self, task: Task, terms: Sequence[str]) -> str:
        """What the model is told of terms."""
        ...

    def ask(self, question: Question, samples: Samples, committed: str, until: Deadline) -> Reply:
        """Have a window written down; raises as ``OpenAIServer.post`` does."""
        ...


class _Options:
    """Options that a server may not know, until it refuses them."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def negotiate(self, ask: Callable[[Sequence[str]], Reply]) -> Reply:
        """Ask with all that are left; after a refusal with fewer, and remember what helped."""
        names = list(self._names)
        while True:
            try:
                reply = ask(names)
            except Refused as refusal:
                if refusal.status not in UNPROCESSABLE or not names:
                    raise
                named = [name for name in names if name in refusal.reason]
                names.remove((named or names)[0])
                continue
            if tuple(names) != self._names:
                missing = ", ".join(name for name in self._names if name not in names)
                log.warning("the speech LLM's server does not take %s; going on without", missing)
                self._names = tuple(names)
            return reply


def build_interface(settings: OpenAISettings, server: OpenAIServer) -> Interface:
    """The interface that the settings ask for."""
    return {"chat": Chat, "transcriptions": Transcriptions}[settings.asks](settings, server)


# Chat completions


class _Logprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None = None

    @property
    def piece(self) -> bytes:
        return self.token.encode() if self.bytes is None else bytes(self.bytes)


class _Logprobs(BaseModel):
    content: list[_Logprob] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    delta: _Message | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        message = self.delta or self.message
        return (message and message.content) or ""


class _Completion(BaseModel):
    choices: list[_Choice]


class Chat:
    """``/chat/completions`` with the audio as a part of the user's message, read as a stream."""

    def __init__(self, settings: OpenAISettings, server: OpenAIServer) -> None:
        """Choose the wording."""
        self._model, self._server = settings.model, server
        self._template: Template = template(settings.wording)
        continues = self._template.continues if settings.continues is None else settings.continues
        self._options = _Options(*["continue_final_message"] * continues, "logprobs")
        self.languages = self._template.languages
        self.target_languages = self.languages or tuple(LANGUAGES)
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

    def _reply(self, choices: Sequence[_Choice], begun: str) -> Reply:
        text = "".join(choice.text for choice in choices)
        told = [
            each for choice in choices if choice.logprobs for each in choice.logprobs.content or ()
        ]
        tokens = tokens_of(text, [(each.piece, each.logprob) for each in told])
        if self._template.marker:
            tokens = after(tokens, self._template.marker)
        # Some servers repeat the beginning that they were given.
        continues = bool(begun) and not text_of(tokens).startswith(begun)
        return Reply(tokens=tokens, continues=continues)


def _choices(response: httpx.Response, most_characters: int) -> list[_Choice]:
    """The first choice in pieces, up to a text that is too long to be true."""
    check_type(response, "text/event-stream", "application/json")
    if not is_stream(response):
        return _parsed(_Completion, read_json(response)).choices[:1]
    found: list[_Choice] = []
    for event in read_events(response):
        found += _parsed(_Completion, event).choices[:1]
        if sum(len(choice.text) for choice in found) > most_characters:
            return found
    if not any(choice.finish_reason for choice in found):
        raise PassingError("ended its answer before it was complete")
    return found


# Transcriptions


class _Word(BaseModel):
    word: str
    start: float
    end: float
    probability: float | None = None


class _Segment(BaseModel):
    text: str
    start: float
    end: float
    avg_logprob: float | None = None


class _Transcription(BaseModel):
    text: str
    words: list[_Word] | None = None
    segments: list[_Segment] | None = None
    logprobs: list[_Logprob] | None = None


class _TranscriptEvent(BaseModel):
    """OpenAI's own events have a type; vLLM's look like those of a chat."""

    type: str = ""
    delta: str = ""
    text: str = ""
    logprobs: list[_Logprob] | None = None
    choices: list[_Choice] = Field(default_factory=list)


class Transcriptions:
    """``/audio/transcriptions`` and ``/audio/translations``, terms in the prompt as for Whisper."""

    def __init__(self, settings: OpenAISettings, server: OpenAIServer) -> None:
        """Ask for times first."""
        self._model, self._server = settings.model, server
        self._options = _Options("timestamp_granularities", "verbose_json", "stream")
        self.target_languages = ("en",)
        self.languages = (
            None if settings.template is None else template(settings.template).languages
        )
        asked = settings.prompt_tokens
        self.prompt_tokens = WHISPER_PROMPT_TOKENS if asked is None else asked

    def wording(self, task: Task, terms: Sequence[str]) -> str:
        """See ``Interface.wording``."""
        return GLOSSARY(terms)

    def ask(self, question: Question, samples: Samples, committed: str, until: Deadline) -> Reply:
        """See ``Interface.ask``; the answer never goes on from the committed text."""
        audio = {"file": ("audio.wav", wav(samples), "audio/wav")}
        most = most_characters(samples)
        path = "/audio/translations" if question.task == "translate" else "/audio/transcriptions"

        def attempt(options: Sequence[str]) -> Reply:
            form = {"model": self._model, "language": question.language, "temperature": "0"}
            prompt = " ".join(filter(None, (question.context, question.told)))
            fields: dict[str, Any] = form | ({"prompt": prompt} if prompt else {})
            if "verbose_json" in options:
                fields["response_format"] = "verbose_json"
                if "timestamp_granularities" in options:
                    fields["timestamp_granularities[]"] = ["word", "segment"]
            elif "stream" in options:
                fields["stream"] = "true"
            return self._server.post(
                path, lambda response: _transcript(response, most), until, data=fields, files=audio
            )

        return self._options.negotiate(attempt)


def _transcript(response: httpx.Response, most_characters: int) -> Reply:
    check_type(response, "text/event-stream", "application/json")
    if is_stream(response):
        return _streamed(response, most_characters)
    answer = _parsed(_Transcription, read_json(response))
    pieces = [(each.piece, each.logprob) for each in answer.logprobs or ()]
    return Reply(tokens=tokens_of(answer.text, pieces), spans=_spans(answer))


def _spans(answer: _Transcription) -> tuple[Span, ...]:
    """Words where the server tells their times, else segments, with what is told of certainty."""
    if answer.words:
        words = answer.words
        return tuple(
            Span(text=each.word, start_s=each.start, end_s=each.end, probability=each.probability)
            for each in words
        )
    return tuple(
        Span(
            text=each.text,
            start_s=each.start,
            end_s=each.end,
            # The mean over the segment's tokens stands for each of its words.
            probability=None if each.avg_logprob is None else math.exp(min(each.avg_logprob, 0.0)),
        )
        for each in answer.segments or ()
    )


def _streamed(response: httpx.Response, most_characters: int) -> Reply:
    text, logprobs, complete = "", list[_Logprob](), False
    for each in read_events(response):
        event = _parsed(_TranscriptEvent, each)
        text += event.delta + "".join(choice.text for choice in event.choices[:1])
        if event.type == "transcript.text.done":
            text, complete = event.text, True
        logprobs = logprobs + event.logprobs if not complete and event.logprobs else logprobs
        complete = complete or any(choice.finish_reason for choice in event.choices)
        if len(text) > most_characters:
            complete = True
            break
    if not complete:
        raise PassingError("ended its answer before it was complete")
    return Reply(tokens=tokens_of(text, [(each.piece, each.logprob) for each in logprobs]))


def _parsed(model: type[ModelT], data: Any) -> ModelT:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        raise ModelError(
            f"the speech LLM's server answers in an unknown form: {where or 'the whole'} is "
            "missing or of another type"
        ) from None


def _most_tokens(samples: Samples) -> int:
    return int(TOKENS_PER_S * len(samples) / SAMPLE_RATE_HZ) + SPARE_TOKENS
