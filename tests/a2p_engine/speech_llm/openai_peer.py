"""The tests' OpenAI-compatible server: Whisper base, and what may go wrong with a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from a2p_engine.encoders.whisper import WhisperEncoder
from a2p_engine.speech_llm.base import DecodeRequest
from a2p_engine.speech_llm.openai_server import OpenAISpeechLLM
from a2p_engine.speech_llm.openai_settings import OpenAISettings
from a2p_engine.speech_llm.whisper import WhisperSpeechLLM
from a2p_engine.types import Samples
from streaming.bench.whisper_server import WhisperServer, events, refusal

__all__ = ["Peer", "ask", "events", "serving", "speech_llm"]


class Peer(WhisperServer):
    """The server, and what it was asked.

    Attributes:
        url: base URL for clients.
        requests: bodies or forms that came, the latest last.
        headers: of the same requests.
        ports: of the connections they came by.
        faults: responses to give instead of an answer, in order.
        refused: options that it does not know.
    """

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__(encoder)
        self.url = ""
        self.faults: deque[Response] = deque()
        self.reset()

    def reset(self) -> None:
        """As at the start."""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.ports: list[int] = []
        self.refused: tuple[str, ...] = ()
        self.faults.clear()
        self.prefix = ""
        self.model_s.clear()

    def first(self, request: Request, body: dict[str, Any]) -> Response | None:
        """Keep what came; the next fault, or a refusal."""
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        assert request.client is not None
        self.ports.append(request.client.port)
        if self.faults:
            return self.faults.popleft()
        known = {name.removesuffix("[]") for name in body} | set(body.get("response_format", ()))
        wrong = [name for name in self.refused if name in known and body.get(name) is not False]
        return refusal(400, f"unsupported: {wrong[0]}, said patient") if wrong else None


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
    """The peer, on a free port."""
    peer = Peer(encoder)
    with peer.serving() as peer.url:
        yield peer
