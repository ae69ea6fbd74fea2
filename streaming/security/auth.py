"""Who a client is: the credential it brings, and what that allows.

Clients put a key where their protocol lets them: into a header, a subprotocol (browsers can set no
header on a websocket) or the query. Without a key file everybody is the anonymous principal, which
may do everything; such a server belongs on the loopback interface.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from starlette.requests import HTTPConnection

from streaming.dialects.base import Handshake
from streaming.errors import Forbidden, Unauthorised
from streaming.security.keys import KEY, SCOPES, KeyFile, KeyLimits, KeyRecord, Scope, today_utc
from streaming.security.limits import FailureLimit

logger = logging.getLogger(__name__)

ANONYMOUS_NAME = "anonymous"
AUTHORIZATION_SCHEMES = ("bearer", "token")  # Deepgram says Token
QUERY_NAMES = ("api_key", "token", "access_token")
SUBPROTOCOL_PREFIXES = ("a2p-key.", "openai-insecure-api-key.")
TOKEN_SUBPROTOCOLS = ("token", "bearer")  # Deepgram: "token, KEY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who a client is and what it may do.

    Attributes:
        name: of the client; what belongs to it, such as its glossaries, belongs to the name.
        scopes: what it may do; ``admin`` is everything.
        limits: what it may use.
        key_id: public part of its key, None without one.
    """

    name: str = ANONYMOUS_NAME
    scopes: frozenset[Scope] = frozenset(SCOPES)
    limits: KeyLimits = field(default_factory=KeyLimits)
    key_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Whether a scope is open to it."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """Check a scope.

        Raises:
            Forbidden: it is not open to it.
        """
        if not self.may(scope):
            raise Forbidden(f"this key does not have the scope {scope!r}")


ANONYMOUS = Principal()


class Client(NamedTuple):
    """Who is at the other end of a connection.

    Attributes:
        principal: whom its key names.
        peer: its address, without the port.
    """

    principal: Principal = ANONYMOUS
    peer: str = ""


def credentials(handshake: Handshake) -> str | None:
    """The key that a client brings, wherever it put it; None without one.

    In this order: ``Authorization: Bearer KEY`` or ``Token KEY``, ``X-API-Key: KEY``; the
    subprotocols ``a2p-key.KEY``, ``openai-insecure-api-key.KEY`` or ``token, KEY``; the query
    parameters ``api_key``, ``token`` or ``access_token``.
    """
    return (
        _from_headers(handshake.headers)
        or _from_subprotocols(handshake.subprotocols)
        or next((value for name, value in handshake.query if name in QUERY_NAMES and value), None)
    )


def _from_headers(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() in AUTHORIZATION_SCHEMES and key.strip():
        return key.strip()
    return headers.get("x-api-key", "").strip() or None


def _from_subprotocols(offered: Sequence[str]) -> str | None:
    for name in offered:
        for prefix in SUBPROTOCOL_PREFIXES:
            if name.startswith(prefix) and len(name) > len(prefix):
                return name.removeprefix(prefix)
    if len(offered) >= 2 and offered[0].lower() in TOKEN_SUBPROTOCOLS:
        return offered[1]
    return None


class Authenticator:
    """Tells who a client is.

    Args:
        keys: None lets everybody do everything.
        failures: bounds what wrong keys may cost and write into the log.
        today: the day, for keys that expire.
    """

    def __init__(
        self,
        keys: KeyFile | None = None,
        failures: FailureLimit | None = None,
        *,
        today: Callable[[], date] = today_utc,
    ) -> None:
        self._keys = keys
        self._failures = FailureLimit() if failures is None else failures
        self._today = today

    @property
    def required(self) -> bool:
        """Whether clients need a key."""
        return self._keys is not None

    def identify(self, handshake: Handshake) -> Principal:
        """Who a client is.

        Raises:
            Unauthorised: the key is missing, unknown, disabled or expired.
            RateLimited: so it is, and too often from this address.
        """
        if self._keys is None:
            return ANONYMOUS
        record, trouble = self._look_up(credentials(handshake))
        if record is None or trouble:
            self._failures.note(handshake.peer)
            logger.warning("refused a client at %s: %s", handshake.peer or "no address", trouble)
            raise Unauthorised(f"{trouble}; send one as 'Authorization: Bearer KEY'")
        return Principal(
            name=record.name,
            scopes=frozenset(record.scopes),
            limits=record.limits,
            key_id=record.id,
        )

    def recheck(self, principal: Principal) -> None:
        """Check that a principal of an earlier ``identify`` still is one.

        Raises:
            Unauthorised: its key was removed, disabled, or has expired.
        """
        if self._keys is None or principal.key_id is None:
            return
        record = self._keys.find(principal.key_id)
        if record is None or (trouble := self._trouble(record)):
            raise Unauthorised(trouble if record else "the API key was removed")

    def authorise(self, request: HTTPConnection, scope: Scope) -> Principal:
        """Who sends an HTTP request, if it may.

        Raises:
            Unauthorised: see ``identify``.
            RateLimited: see ``identify``.
            Forbidden: the key does not open the scope.
        """
        handshake = Handshake(
            path=request.url.path,
            query=tuple(request.query_params.multi_items()),
            headers=request.headers,
            peer=request.client.host if request.client else "",
        )
        principal = self.identify(handshake)
        principal.require(scope)
        return principal

    def _look_up(self, key: str | None) -> tuple[KeyRecord | None, str]:
        """The record of a key, and what keeps it from being used; nothing of the secret."""
        if key is None:
            return None, "no API key was given"
        shape = KEY.fullmatch(key)
        record = self._keys.find(shape[1]) if shape and self._keys is not None else None
        if record is None or not record.matches(key):
            return None, "the API key is not valid"
        return record, self._trouble(record)

    def _trouble(self, record: KeyRecord) -> str:
        if record.disabled:
            return f"the API key {record.id} is disabled"
        return f"the API key {record.id} has expired" if record.expired(self._today()) else ""


def warn_if_open(host: str, keys: object | None) -> None:
    """Say once, at the start, that anybody who reaches the server may use it."""
    if keys is None and not is_loopback(host):
        logger.warning(
            "listening on %s without API keys: whoever reaches this address may use the server and "
            "read its glossaries; see `a2p keys add --help` and docs/security.md",
            host,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
