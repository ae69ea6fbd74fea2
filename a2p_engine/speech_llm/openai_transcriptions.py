"""``/audio/transcriptions`` and ``/audio/translations`` of OpenAI-compatible servers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, Field

from a2p_engine.prompt import GLOSSARY
from a2p_engine.speech_llm.openai_http import (
    Deadline,
    OpenAIServer,
    PassingError,
    check_type,
    is_stream,
    read_events,
    read_json,
)
from a2p_engine.speech_llm.openai_interfaces import Choice, Logprob, Options, parsed, pieces
from a2p_engine.speech_llm.openai_replies import Reply, Span, most_characters, tokens_of, wav
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.openai_templates import Question, template
from a2p_engine.types import Samples, Task

# Whisper's decoder has room for as many before the text, see WhisperSpeechLLM.
WHISPER_PROMPT_TOKENS = 223


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
    logprobs: list[Logprob] | None = None


class _TranscriptEvent(BaseModel):
    """OpenAI's own events have a type; vLLM's look like those of a chat."""

    type: str = ""
    delta: str = ""
    text: str = ""
    logprobs: list[Logprob] | None = None
    choices: list[Choice] = Field(default_factory=list)


class Transcriptions:
    """``/audio/transcriptions`` and ``/audio/translations``, terms in the prompt as for Whisper."""

    pairs = False  # what is in the prompt is text before, in the language that is written

    def __init__(self, settings: OpenAISettings, server: OpenAIServer) -> None:
        """Ask for times first."""
        self._model, self._server = settings.model, server
        self._options = Options("timestamp_granularities", "verbose_json", "stream")
        self.target_languages: tuple[str, ...] = ("en",)
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
    answer = parsed(_Transcription, read_json(response))
    found = pieces(answer.logprobs or ())
    return Reply(tokens=tokens_of(answer.text, found), spans=_spans(answer))


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
    text, logprobs, complete = "", list[Logprob](), False
    for each in read_events(response):
        event = parsed(_TranscriptEvent, each)
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
    return Reply(tokens=tokens_of(text, pieces(logprobs)))
