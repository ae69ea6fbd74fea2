"""Requests to an OpenAI-compatible server: in time, again after errors that pass, or not at all.

Neither audio nor text nor key gets into an error or a log: what a server says of a request that it
refuses often repeats the request, so little of it is passed on.
"""

from __future__ import annotations

import json
import logging
import random
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource, SSEError

from a2p_engine.errors import ModelError, ModelUnavailable
from a2p_engine.speech_llm.openai_settings import OpenAISettings

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
Read = Callable[[httpx.Response], ResultT]

# What may go better the next time (RFC 9110, section 15; RFC 6585, section 4).
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# Here a server speaks of the model, the address or the key, and not of what was sent.
TELLING = frozenset({401, 403, 404})
TOLD_CHARS = 200
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 4.0
# Servers close idle connections after five seconds (uvicorn) or later.
KEEP_ALIVE_S = 4.0
END_OF_STREAM = "[DONE]"


class Refused(ModelError):
    """The server does not take the request as it is.

    Attributes:
        status: of the response.
        reason: what the server says; it may repeat the request, so it is for no log.
    """

    def __init__(self, text: str, *, status: int, reason: str) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason


class PassingError(Exception):
    """An error that may pass.

    Attributes:
        after_s: when the server wants to be asked again.
    """

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of ``time.monotonic``, and how far away it was at first."""

    at: float
    within_s: float

    @classmethod
    def after(cls, within_s: float, since: float | None = None) -> Deadline:
        """So many seconds from a moment on, or from now on."""
        return cls((time.monotonic() if since is None else since) + within_s, within_s)

    def left_s(self) -> float:
        """Seconds left.

        Raises:
            ModelUnavailable: there are none.
        """
        if (left := self.at - time.monotonic()) > 0:
            return left
        raise ModelUnavailable(f"the speech LLM's server took longer than {self.within_s:g} s")


class OpenAIServer:
    """The client; thread-safe. Connections are kept open and shared."""

    def __init__(self, settings: OpenAISettings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        key = settings.api_key
        self._client = httpx.Client(
            headers={"authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            limits=httpx.Limits(
                max_connections=settings.max_concurrent,
                max_keepalive_connections=settings.max_concurrent,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
        )
        weakref.finalize(self, self._client.close)

    def post(self, path: str, read: Read[ResultT], deadline: Deadline, **body: Any) -> ResultT:
        """Send a request and read its answer, again where an error may pass and time is left.

        Args:
            path: behind the base URL.
            read: makes the result out of a response of which only the headers are there.
            deadline: when the result is of no use any more. What trickles in is noticed at the
                next piece, which may take as long again.
            body: as ``httpx`` takes it: ``json``, or ``data`` and ``files``.

        Raises:
            ModelUnavailable: there was no good answer in time.
            Refused: the server does not take the request.
            ModelError: what answers is no such server.
        """
        for attempt in count(1):
            try:
                return self._send("POST", path, read, deadline, body)
            except PassingError as error:
                wait_s = max(_backoff_s(attempt), error.after_s)
                if attempt > self._settings.retries or wait_s >= deadline.left_s():
                    raise ModelUnavailable(f"the speech LLM's server {error}") from None
                log.info("the speech LLM's server %s; asking again in %.1f s", error, wait_s)
            time.sleep(wait_s)
        raise AssertionError("counting does not end")

    def models(self, deadline: Deadline) -> list[str]:
        """Names of the models that the server offers; raises as ``post`` does."""
        try:
            answer = self._send("GET", "/models", read_json, deadline, {})
            return [str(each["id"]) for each in answer["data"]]
        except PassingError as error:
            raise ModelUnavailable(f"the speech LLM's server {error}") from None
        except (KeyError, TypeError):
            raise ModelError("the speech LLM's server answers /models without a list") from None

    def _send(
        self, method: str, path: str, read: Read[ResultT], deadline: Deadline, body: dict[str, Any]
    ) -> ResultT:
        left_s = deadline.left_s()
        connect_s = min(left_s, self._settings.connect_timeout_s)
        url, timeout = self._settings.base_url + path, httpx.Timeout(left_s, connect=connect_s)
        with (
            _transport_errors(deadline),
            self._client.stream(method, url, timeout=timeout, **body) as response,
        ):
            response.stream = _InTime(response.stream, deadline)
            _check_status(response)
            return read(response)


class _InTime(httpx.SyncByteStream):
    """A response's bytes as long as there is time: comments that keep a stream alive count too."""

    def __init__(self, stream: Any, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._deadline.left_s()
            yield piece

    def close(self) -> None:
        """Give the connection back."""
        self._stream.close()


def read_json(response: httpx.Response) -> Any:
    """The body as JSON.

    Raises:
        PassingError: it is not whole.
        ModelError: it is something else.
    """
    check_type(response, "application/json")
    response.read()
    try:
        return response.json()
    except ValueError:  # of JSON or of UTF-8
        raise PassingError("sent JSON that cannot be read") from None


def read_events(response: httpx.Response) -> Iterator[Any]:
    """JSON of each server-sent event.

    The stream is read to its end: a connection of which something is unread cannot be kept.

    Raises:
        PassingError: an event cannot be read, or reports an error.
    """
    for event in EventSource(response).iter_sse():
        if event.data == END_OF_STREAM:
            continue
        try:
            data = json.loads(event.data)
        except ValueError:
            raise PassingError("sent an event that cannot be read") from None
        if isinstance(data, dict) and data.get("error"):
            raise PassingError("reports an error in the middle of its answer")
        yield data


def is_stream(response: httpx.Response) -> bool:
    """Whether the answer comes as events."""
    return _media_type(response) == "text/event-stream"


def check_type(response: httpx.Response, *accepted: str) -> None:
    """See that an answer is of an accepted media type.

    Raises:
        ModelError: it is not.
    """
    if (found := _media_type(response)) not in accepted:
        raise ModelError(
            f"the speech LLM's server answers with {found or 'no content type'!r} instead of "
            f"{' or '.join(accepted)}; does the base URL end where /chat/completions begins?"
        )


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


@contextmanager
def _transport_errors(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectTimeout:
        raise PassingError("does not answer") from None
    except httpx.ConnectError:
        raise PassingError("cannot be reached") from None
    except httpx.TimeoutException:
        raise ModelUnavailable(
            f"the speech LLM's server took longer than {deadline.within_s:g} s"
        ) from None
    except (httpx.TransportError, httpx.DecodingError, SSEError) as error:
        raise PassingError(f"broke off ({type(error).__name__})") from None


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if response.is_success:
        return
    response.read()
    if status in PASSING:
        wait_s = retry_after_s(response.headers.get("retry-after"))
        raise PassingError(f"answers with status {status}", wait_s)
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    reason = _reason(response).replace(key or "\0", "***")
    told = f": {' '.join(reason.split())[:TOLD_CHARS]}" if reason and status in TELLING else ""
    text = f"the speech LLM's server refuses the request with status {status}{told}"
    raise Refused(text, status=status, reason=reason)


def _reason(response: httpx.Response) -> str:
    """The message of an error, in OpenAI's form or another one."""
    try:
        error = response.json()
    except ValueError:
        return ""
    if isinstance(error, dict):
        error = error.get("error", error)
    if isinstance(error, dict):
        error = error.get("message", error.get("detail", ""))
    return error if isinstance(error, str) else json.dumps(error)


def retry_after_s(value: str | None) -> float:
    """Seconds that a ``Retry-After`` header asks for, as a number or a date; 0 for none."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (at - datetime.now(at.tzinfo and UTC)).total_seconds())


def _backoff_s(attempt: int) -> float:
    """Exponential, with jitter: sessions that failed together do not come back together."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
