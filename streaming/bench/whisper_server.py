"""Whisper base behind OpenAI's interfaces, by Starlette and uvicorn.

What vLLM does of chat completions with audio and of transcriptions, for measuring what a network
adds and for testing. It answers whoever asks and is not made to be reached by others.
"""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.speech_llm.base import DecodeRequest, TimedWord
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

# What of a prompt stands before the terms, in the wordings of openai_templates.
TERMS_MARKS = ("where they do: ", "terms include:", "Glossary: ")
ASR_TEXT = "<asr_text>"


class WhisperServer:
    """Answers requests; a subclass may look at them first.

    Attributes:
        model_s: time that encoder and decoder took for each answer.
        prefix: written before a text that the client did not begin.
    """

    def __init__(self, encoder: WhisperEncoder) -> None:
        self.encoder = encoder
        self.model_s: list[float] = []
        self.prefix = ""

    def first(self, request: Request, body: dict[str, Any]) -> Response | None:
        """What to answer instead of a text, if anything."""
        return None

    def write(
        self, samples: Samples, told: str, committed: str, language: str, task: Any
    ) -> tuple[TimedWord, ...]:
        """Whisper base's words, with the terms it is told."""
        begin = time.perf_counter()
        request = DecodeRequest(
            samples=samples,
            encoded=self.encoder.encode(samples),
            terms=_terms(told),
            committed=committed,
            language=language,
            task=task,
        )
        words = WhisperSpeechLLM("whisper-base", self.encoder).decode(request).words
        self.model_s.append(time.perf_counter() - begin)
        return words

    async def chat(self, request: Request) -> Response:
        """``/v1/chat/completions``."""
        body = await request.json()
        if (instead := self.first(request, body)) is not None:
            return instead
        turns = {turn["role"]: turn["content"] for turn in body["messages"]}
        parts = {part["type"]: part for part in turns["user"]}
        data = base64.b64decode(parts["input_audio"]["input_audio"]["data"])
        told = turns.get("system", "") + parts.get("text", {}).get("text", "")
        begun = turns.get("assistant", "") if body.get("continue_final_message") else ""
        if begun and body.get("add_generation_prompt", True):
            return refusal(400, "continue_final_message and add_generation_prompt are both set")
        committed = begun.rpartition(ASR_TEXT)[2]
        words = await run_in_threadpool(
            self.write, _samples(data), told, committed, "en", "transcribe"
        )
        pieces = [(word.text, word.probability) for word in words]
        if committed:
            pieces = _behind(pieces, committed)
        if self.prefix and not begun:
            pieces = [(self.prefix, 1.0), *pieces]
        if not body.get("stream"):
            text = "".join(text for text, _ in pieces)
            message = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return JSONResponse({"choices": [message]})
        return events(_chunks(pieces, logprobs=body.get("logprobs", False)))

    async def transcriptions(self, request: Request) -> Response:
        """``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""
        async with request.form() as form:
            data = await form["file"].read()  # type: ignore[union-attr]
            fields = {name: form.getlist(name) for name in form if name != "file"}
        if (instead := self.first(request, fields)) is not None:
            return instead
        told, language = str(form.get("prompt", "")), str(form.get("language", "en"))
        task = "translate" if request.url.path.endswith("translations") else "transcribe"
        samples = _samples(data)
        words = await run_in_threadpool(self.write, samples, told, "", language, task)
        text = "".join(word.text for word in words).strip()
        if form.get("response_format") == "verbose_json":
            return JSONResponse(_verbose(text, words, samples, fields))
        if form.get("stream") == "true":
            return events(_transcript_events(text, words))
        return JSONResponse({"text": text})

    async def models(self, request: Request) -> Response:
        """``/v1/models``."""
        return JSONResponse({"object": "list", "data": [{"id": "whisper-1"}]})

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port of the loopback, in a thread; yields the base URL."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/audio/transcriptions", self.transcriptions, methods=["POST"]),
            Route("/v1/audio/translations", self.transcriptions, methods=["POST"]),
            Route("/v1/models", self.models),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
        finally:
            server.force_exit = server.should_exit = True
            thread.join()


def events(pieces: Iterator[str] | AsyncIterator[str]) -> StreamingResponse:
    """Server-sent events."""
    return StreamingResponse(pieces, media_type="text/event-stream")


def _samples(data: bytes) -> Samples:
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    return np.asarray(samples, np.float32)


def _terms(told: str) -> list[str]:
    for mark in TERMS_MARKS:
        if mark in told:
            return told.partition(mark)[2].rstrip(".").split(", ")
    return []


def _behind(pieces: Sequence[tuple[str, float]], committed: str) -> list[tuple[str, float]]:
    text = ""
    for at, (piece, _) in enumerate(pieces):
        if len(text.strip()) >= len(committed):
            return list(pieces[at:])
        text += piece
    return []


async def _chunks(pieces: Sequence[tuple[str, float]], *, logprobs: bool) -> AsyncIterator[str]:
    yield ": keep-alive\n\n"
    yield _event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    for text, probability in pieces:
        choice: dict[str, Any] = {"delta": {"content": text}}
        if logprobs:
            token = {"token": text, "logprob": math.log(probability), "bytes": list(text.encode())}
            choice["logprobs"] = {"content": [token]}
        yield _event({"choices": [choice]})
    yield _event({"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]})
    yield _event({"choices": [], "usage": {"total_tokens": 1}})
    yield "data: [DONE]\n\n"


async def _transcript_events(text: str, words: Sequence[TimedWord]) -> AsyncIterator[str]:
    for word in words:
        yield _event({"type": "transcript.text.delta", "delta": word.text})
    yield _event({"type": "transcript.text.done", "text": text})


def _verbose(
    text: str, words: Sequence[TimedWord], samples: Samples, fields: dict[str, Any]
) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": text, "language": "en", "duration": "1.0"}
    mean = float(np.mean([word.probability for word in words])) if words else 1.0
    segment = {"text": text, "start": 0.0, "end": len(samples) / SAMPLE_RATE_HZ}
    answer["segments"] = [segment | {"avg_logprob": math.log(mean)}] if text else []
    if "word" in fields.get("timestamp_granularities[]", ()):
        answer["words"] = [
            {
                "word": word.text.strip(),
                "start": word.start_sample / SAMPLE_RATE_HZ,
                "end": word.end_sample / SAMPLE_RATE_HZ,
            }
            for word in words
        ]
    return answer


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def refusal(status: int, message: str) -> Response:
    """An error in OpenAI's form."""
    return JSONResponse({"error": {"message": message, "type": "BadRequestError"}}, status)
