"""When to try a connection again, and how long to wait."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.http11 import Response

from clients.errors import SessionRefused

# 1001 going away, 1006 no closing handshake, 1011 internal error, 1012 service restart, 1013 try
# again later. Anything else would fail the same way again.
RETRY_CLOSE_CODES = frozenset({1001, 1006, 1011, 1012, 1013})
RETRY_HTTP_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Attributes:
        attempts: connections tried in a row before giving up; 0 never reconnects.
        first_delay_s: wait before the first one.
        max_delay_s: longest wait the back-off itself asks for.
        at_start: whether the very first connection is retried too.
    """

    attempts: int = 10
    first_delay_s: float = 0.5
    max_delay_s: float = 20.0
    at_start: bool = False

    def delay_s(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Wait before attempt 1, 2, ...; the server's own wish is the least, jitter comes on top.

        Without jitter the clients of a restarted server would all come back at once.
        """
        backoff_s = min(self.max_delay_s, self.first_delay_s * 2.0 ** (attempt - 1))
        return (retry_after_s or 0.0) + backoff_s * random.uniform(0.5, 1.0)


def close_code(error: ConnectionClosed) -> int:
    """The close code the peer sent, 1006 when the connection broke without one."""
    return error.rcvd.code if error.rcvd is not None else 1006


def worth_retrying(error: Exception) -> bool:
    """Whether the same connection may succeed later."""
    if isinstance(error, ConnectionClosed):
        return close_code(error) in RETRY_CLOSE_CODES
    if isinstance(error, SessionRefused):
        return error.close_code in RETRY_CLOSE_CODES
    if isinstance(error, InvalidStatus):
        return error.response.status_code in RETRY_HTTP_STATUS
    if isinstance(error, InvalidHandshake):
        return isinstance(error, InvalidMessage)  # the peer went away in the middle of it
    return isinstance(error, OSError | TimeoutError)


def reason_of(error: Exception) -> str:
    """One line for the user: what happened to the connection."""
    if isinstance(error, ConnectionClosed):
        text = error.rcvd.reason if error.rcvd is not None else ""
        return f"connection closed ({close_code(error)}{': ' + text if text else ''})"
    if isinstance(error, InvalidStatus):
        return _refusal(error.response)
    if isinstance(error, InvalidURI):  # whose text quotes the address, with what it may hide
        return "that is no websocket address; one looks like ws://host:8765/ws"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def address_of(url: str) -> str:
    """The URL without user, password and query, which may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the server"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _refusal(response: Response) -> str:
    """What the server said instead of opening a socket."""
    try:
        told = f": {json.loads(bytes(response.body or b''))['error']['message']}"
    except (ValueError, KeyError, TypeError):
        told = ""
    return f"the server refused the connection ({response.status_code}{told})"
