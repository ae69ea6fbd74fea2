"""An OpenAI-compatible server by Starlette and uvicorn, with Whisper base behind it.

It implements what vLLM does of chat completions with audio and of transcriptions. Things that go
wrong on the way are asked of it one by one.
"""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from a2p_engine.speech_llm.openai_server import OpenAISpeechLLM
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import SAMPLE_RATE_HZ, Samples

TERMS_MARKS = ("where they do: ", "terms include:", "Glossary: ")
ASR_TEXT = "<asr_text>"


@dataclass
class Peer:
    """The server's state.

    Attributes:
        url: base URL for clients.
        requests: bodies or forms that came, the latest last.
        headers: of the same requests.
        ports: of the connections they came by.
        faults: responses to give instead of an answer, in order.
        refused: options that it does not know.
        prefix: written before the text where the client did not begin the answer.
        model_s: time that the model took for each answer.
    """

    encoder: WhisperEncoder
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    faults: deque[Response] = field(default_factory=deque)
    refused: tuple[str, ...] = ()
    prefix: str = ""
    model_s: list[float] = field(default_factory=list)

    def reset(self) -> None:
        """As at the start."""
        self.requests, self.headers, self.ports, self.model_s = [], [], [], []
        self.faults.clear()
        self.refused, self.prefix = (), ""

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
        if (refusal := self._note(request, body)) is not None:
            return refusal
        turns = {turn["role"]: turn["content"] for turn in body["messages"]}
        parts = {part["type"]: part for part in turns["user"]}
        data = base64.b64decode(parts["input_audio"]["input_audio"]["data"])
        told = turns.get("system", "") + parts.get("text", {}).get("text", "")
        begun = turns.get("assistant", "") if body.get("continue_final_message") else ""
        if begun and body.get("add_generation_prompt", True):
            return _error(400, "continue_final_message and add_generation_prompt are both set")
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
        if (refusal := self._note(request, fields)) is not None:
            return refusal
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

    def _note(self, request: Request, body: dict[str, Any]) -> Response | None:
        """Keep what came; returns what to answer instead, if anything."""
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        assert request.client is not None
        self.ports.append(request.client.port)
        if self.faults:
            return self.faults.popleft()
        known = {name.removesuffix("[]") for name in body} | set(body.get("response_format", ()))
        wrong = [name for name in self.refused if name in known and body.get(name) is not False]
        return _error(400, f"unsupported: {wrong[0]}, said patient") if wrong else None


def events(pieces: Iterator[str]) -> StreamingResponse:
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


def _chunks(pieces: Sequence[tuple[str, float]], *, logprobs: bool) -> Iterator[str]:
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


def _transcript_events(text: str, words: Sequence[TimedWord]) -> Iterator[str]:
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


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError"}}, status)


def speech_llm(peer: Peer, **options: Any) -> OpenAISpeechLLM:
    """The client of a peer."""
    values = {"base_url": peer.url, "model": "whisper-1", "partial_timeout_s": 60.0, **options}
    settings = OpenAISettings(**values)
    return OpenAISpeechLLM(WhisperSpeechLLM("whisper-base", peer.encoder), settings)


def ask(peer: Peer, audio: Samples, terms: Any = (), **request: Any) -> DecodeRequest:
    """A request, English unless it says otherwise."""
    values = {"committed": "", "language": "en", "task": "transcribe", **request}
    return DecodeRequest(samples=audio, encoded=peer.encoder.encode(audio), terms=terms, **values)


@contextmanager
def serving(encoder: WhisperEncoder) -> Iterator[Peer]:
    """The peer, on a free port, in a thread of its own."""
    peer = Peer(encoder)
    routes = [
        Route("/v1/chat/completions", peer.chat, methods=["POST"]),
        Route("/v1/audio/{task}", peer.transcriptions, methods=["POST"]),
        Route("/v1/models", lambda _: JSONResponse({"data": [{"id": "whisper-1"}]})),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    peer.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield peer
    finally:
        server.force_exit = server.should_exit = True
        thread.join(10)
