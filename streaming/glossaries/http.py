"""How glossaries and their errors look over HTTP: bodies, statuses, preconditions, JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from a2p_engine.errors import GlossaryError, InputError
from a2p_engine.glossary import Parsed
from a2p_engine.glossary_formats import MEDIA_TYPES, READ
from streaming.errors import ProtocolError
from streaming.glossaries.records import (
    Change,
    ReadOnlyGlossary,
    StoreBusy,
    StoredGlossary,
    StoredVersion,
    StoreError,
    StoreFull,
    TooMuch,
    UnknownGlossary,
    VersionConflict,
)
from streaming.security.auth import QUERY_NAMES

MAX_SHOWN_REJECTED = 20
BODY_TIMEOUT_S = 300.0
RETRY_AFTER_S = 5
_FORMS = {media: form for form, media in MEDIA_TYPES.items()} | {
    "application/x-tbx": "tbx",
    "application/x-tbx+xml": "tbx",
    "application/xml": "tbx",
    "text/xml": "tbx",
}
_TAG = re.compile(r'"(\d{1,18})-(\d{1,18})"')


class BadRequest(InputError):
    """A header or query parameter has a value that is not accepted."""


class BodyTooLarge(InputError):
    """The body is longer than the server accepts."""


class BodyTooSlow(InputError):
    """The body did not come in time."""


class TooManyUploads(InputError):
    """As many bodies as the server has room for are on their way."""


class UnknownForm(InputError):
    """The body is in a form that is not read."""


class PreconditionFailed(VersionConflict):
    """The glossary is not the one that ``If-Match`` or ``If-None-Match`` asks for."""


# The first that fits counts.
_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "bad_request"),
    ProtocolError: (400, "bad_request"),
    BodyTooLarge: (413, "body_too_large"),
    BodyTooSlow: (408, "body_too_slow"),
    TooManyUploads: (503, "too_many_uploads"),
    UnknownForm: (415, "unknown_form"),
    UnknownGlossary: (404, "unknown_glossary"),
    PreconditionFailed: (412, "version_conflict"),
    VersionConflict: (409, "version_conflict"),
    ReadOnlyGlossary: (403, "read_only_glossary"),
    TooMuch: (422, "too_much"),
    StoreFull: (507, "store_full"),
    StoreBusy: (503, "store_busy"),
    StoreError: (500, "store_failed"),
    GlossaryError: (422, "bad_glossary"),
}
EXPECTED = tuple(_ANSWERS)


def refusal(error: Exception) -> JSONResponse:
    """The response to one of the ``EXPECTED`` errors."""
    status, code = next(answer for kind, answer in _ANSWERS.items() if isinstance(error, kind))
    details: dict[str, Any] = {"code": code, "message": str(error)}
    if isinstance(error, VersionConflict):
        details["version"] = error.version
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"error": details}, status, headers)


def announced_bytes(request: Request, max_bytes: int) -> int:
    """How long the body may become.

    Raises:
        BodyTooLarge: it says that it is longer than ``max_bytes``.
    """
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else max_bytes
    if size > max_bytes:
        raise _too_large(max_bytes)
    return size


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request.

    Raises:
        UnknownForm: it is compressed.
        BodyTooLarge: it is longer than ``max_bytes``.
        BodyTooSlow: it is still not here after ``BODY_TIMEOUT_S``.
        BadRequest: the client has gone.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnknownForm("compressed bodies are not accepted; send it without Content-Encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    except ClientDisconnect:
        raise BadRequest("the body did not come to its end") from None
    return bytes(body)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than the {max_bytes} bytes that are accepted")


def form_of(request: Request) -> str:
    """The form of the body, from ``?form=`` or else the content type.

    Raises:
        UnknownForm: neither says one that is read.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = request.query_params.get("form") or _FORMS.get(media)
    if form not in READ:
        said = f"form={form}" if form else f"content type {media or 'none'}"
        raise UnknownForm(
            f"{said}: accepted are ?form={'|'.join(READ)} or the content types {', '.join(_FORMS)}"
        )
    return form


def check_query(request: Request, accepted: Collection[str]) -> Mapping[str, str]:
    """The query, of which all names must be known; the key may be among them.

    Raises:
        BadRequest: one is not.
    """
    for name in request.query_params:
        if name not in accepted and name not in QUERY_NAMES:
            raise BadRequest(f"unknown parameter {name!r}; accepted: {', '.join(accepted)}")
    return request.query_params


def whole_number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A number in the query.

    Raises:
        BadRequest: it is none, or out of its bounds.
    """
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and low <= int(text) <= high):
        raise BadRequest(f"{name}={text}: accepted are whole numbers from {low} to {high}")
    return int(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A switch in the query.

    Raises:
        BadRequest: it is neither true nor false.
    """
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise BadRequest(f"{name}={text}: accepted are true and false")
    return text == "true"


def etag(stored: StoredGlossary) -> str:
    """The entity tag of a glossary in its version."""
    return f'"{stored.id}-{stored.version}"'


def expected_version(
    request: Request, stored: StoredGlossary | None, if_version: int | None
) -> int | None:
    """Which version a request wants to change, if it says so; 0 is none.

    Args:
        request: with ``If-Match`` or ``If-None-Match``, perhaps.
        stored: the glossary that it is about, as it is now.
        if_version: what the query or body says.

    Raises:
        PreconditionFailed: the headers ask for another glossary.
        BadRequest: the headers cannot be understood.
    """
    match, none_match = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if none_match is not None:
        if none_match.strip() != "*":
            raise BadRequest(f"If-None-Match: {none_match}: accepted is *, for a new glossary")
        if stored is not None:
            raise PreconditionFailed("there is a glossary of this name", stored.version)
        return 0
    if match is None:
        return if_version
    if match.strip() != "*" and not _TAG.fullmatch(match.strip()):
        raise BadRequest(f"If-Match: {match}: accepted is an ETag of this server, or *")
    if stored is None or match.strip() not in ("*", etag(stored)):
        version = stored.version if stored else None
        raise PreconditionFailed("the glossary was changed in the meantime; read it again", version)
    return stored.version if match.strip() != "*" else if_version


def described(stored: StoredGlossary) -> dict[str, Any]:
    """A glossary without its terms."""
    return {
        "name": stored.name,
        "version": stored.version,
        "terms": stored.terms,
        "shared": stored.owner is None,
        "created": _iso(stored.created_s),
        "changed": _iso(stored.changed_s),
    }


def listed_version(version: StoredVersion, *, with_author: bool) -> dict[str, Any]:
    """An entry of the history."""
    return {
        "version": version.version,
        "made": _iso(version.made_s),
        "author": version.author if with_author else None,
        "action": version.action,
        "terms": version.terms,
        "added": version.added,
        "removed": version.removed,
        "replaced": version.replaced,
    }


def outcome(change: Change, parsed: Parsed | None = None) -> JSONResponse:
    """The response to a change."""
    rejected = [*parsed.rejected] if parsed else []
    rejected += [(text, "not in the glossary") for text in change.missing]
    body = {
        "name": change.glossary.name,
        "version": change.glossary.version,
        "terms": change.glossary.terms,
        "added": len(change.added),
        "removed": len(change.removed),
        "replaced": len(change.replaced),
        "rejected": [
            {"entry": entry, "reason": reason} for entry, reason in rejected[:MAX_SHOWN_REJECTED]
        ],
        "rejected_count": len(rejected),
        "notes": parsed.notes if parsed else [],
    }
    return JSONResponse(body, 200 if change.since else 201, {"ETag": etag(change.glossary)})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
