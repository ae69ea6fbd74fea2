"""OpenAI's REST interface for recordings: ``/v1/audio/transcriptions``, ``translations``, models.

docs/compatibility.md says what of it means something here. A request is worked on only as long as
its client is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from a2p_engine.errors import A2PError
from a2p_engine.types import SessionOptions, Task
from streaming.errors import ServerFull, ShuttingDown
from streaming.events import Final
from streaming.hub import Hub
from streaming.operations.failures import for_log
from streaming.security.admission import Ticket
from streaming.security.auth import Client
from streaming.uploads.answers import (
    MEDIA_TYPES,
    Transcript,
    delta_event,
    done_event,
    error_body,
    error_event,
    error_status,
    render,
)
from streaming.uploads.captioning import Progress, Recording
from streaming.uploads.form import RequestRefused, parse_form, read_form

logger = logging.getLogger(__name__)

LINGER_S = 5.0  # for the rest of a body that nobody wants
STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def transcription_routes(hub: Hub) -> list[BaseRoute]:
    """The routes, for whoever has the scope ``captions``."""

    async def models(request: Request) -> Response:
        try:
            hub.auth.authorise(request, "captions")
            known = {"id": hub.engine.speech_llm, "object": "model", "created": 0}
            model = {**known, "owned_by": "a2p-live"}
            if (name := request.path_params.get("name")) is None:
                return JSONResponse({"object": "list", "data": [model]})
            if name == model["id"]:
                return JSONResponse(model)
            text = f"there is no model {name!r}; there is {model['id']!r}, and uploads take any"
            raise RequestRefused(text, status=404, param="model", code="model_not_found")
        except A2PError as error:
            return _refusal(error, hub)

    return [
        Route("/v1/audio/transcriptions", Captions(hub, "transcribe"), methods=["POST"]),
        Route("/v1/audio/translations", Captions(hub, "translate"), methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name}", models),
    ]


class Captions:
    """Answers an uploaded recording with its captions; an ASGI application."""

    def __init__(self, hub: Hub, task: Task) -> None:
        self._hub = hub
        self._task: Task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        incoming = _Incoming(receive)
        request = Request(scope, incoming, send)
        try:
            await self._serve(request, send)
        except ClientDisconnect:
            logger.info("a client left before its upload was done", extra={"event": "upload.left"})
        except Exception as error:
            _note(error)
            await incoming.discard()
            await _refusal(error, self._hub)(scope, incoming, send)

    async def _serve(self, request: Request, send: Send) -> None:
        hub = self._hub
        peer = request.client.host if request.client else ""
        client = Client(hub.auth.authorise(request, "captions"), peer)
        if hub.cordoned:
            raise ShuttingDown("the server takes no new uploads")
        with hub.uploads.place(client) as ticket:
            max_bytes = hub.settings.max_audio_upload_bytes
            async with read_form(request, max_bytes) as fields:
                form = parse_form(fields, hub.offer_to(client.principal), max_bytes)
            transcript = Transcript(task=self._task, form=form, progress=Progress())
            answer = self._stream if form.stream else self._whole
            await _while_there(request, answer(transcript, ticket, send))
            audio_s = transcript.progress.duration_s
            hub.metrics.audio_received(audio_s)
            logger.info("upload done", extra={"event": "upload.done", "audio_s": audio_s})

    async def _whole(self, transcript: Transcript, ticket: Ticket, send: Send) -> None:
        """Answer when everything is there."""
        async with aclosing(self._captions(transcript, ticket)) as captions:
            async for _ in captions:
                pass
        body = await asyncio.to_thread(partial(render, transcript))
        media_type = MEDIA_TYPES[transcript.form.response_format]
        await _send(send, 200, {"content-type": media_type}, body)

    async def _stream(self, transcript: Transcript, ticket: Ticket, send: Send) -> None:
        """Tell each segment as it comes; what goes wrong before the first one has a status."""
        async with aclosing(self._captions(transcript, ticket)) as captions:
            final = await anext(captions, None)
            await _begin(send, 200, {"content-type": "text/event-stream", **STREAM_HEADERS})
            first = True
            try:
                while final is not None:
                    await _go_on(send, delta_event(final, first=first))
                    first, final = False, await anext(captions, None)
                last = done_event(transcript)
            except Exception as error:
                _note(error)
                last = error_event(error)
            await _go_on(send, last, more=False)

    def _captions(self, transcript: Transcript, ticket: Ticket) -> AsyncGenerator[Final, None]:
        form = transcript.form
        options = SessionOptions(language=form.language, task=self._task, threshold=form.threshold)
        recording = Recording(data=form.data, options=options, glossary=form.glossary, vad=form.vad)
        return self._hub.uploads.caption(recording, ticket, transcript.progress)


class _Incoming:
    """What comes from the client, and whether its body has come to an end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._ended = not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read on for a while: a client that is still sending would not see why it is refused."""
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._ended:
                    await self()
        except TimeoutError:
            logger.debug("a refused client did not stop sending")


async def _while_there(request: Request, work: Coroutine[Any, Any, None]) -> None:
    """Do work that is of no use any more when the client has gone.

    Raises:
        ClientDisconnect: it has; the work was broken off.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        left = not working.done()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait((working, gone))
    if left:
        raise ClientDisconnect
    working.result()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _note(error: Exception) -> None:
    if not isinstance(error, A2PError):
        logger.error("an upload failed", exc_info=for_log(error))


def _refusal(error: Exception, hub: Hub) -> Response:
    """The answer to a request that failed."""
    wait_s = getattr(error, "retry_after_s", None)
    if wait_s is None and isinstance(error, ServerFull | ShuttingDown):
        wait_s = hub.settings.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(max(1, round(wait_s)))}
    if (status := error_status(error)) == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status, headers)


async def _send(send: Send, status: int, headers: dict[str, str], body: str) -> None:
    await _begin(send, status, headers)
    await _go_on(send, body, more=False)


async def _begin(send: Send, status: int, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _go_on(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
