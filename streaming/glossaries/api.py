"""Glossaries over HTTP, under ``/api/glossaries``; docs/glossaries.md shows every call.

Bodies are gathered on the event loop up to a limit; parsing and storing is done in threads. An
entity tag names a glossary and its version, so that ``If-Match`` keeps two editors from undoing
each other's work.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from a2p_engine import glossary
from a2p_engine.errors import GlossaryError
from a2p_engine.glossary_formats import MEDIA_TYPES, WRITTEN, Languages, as_object, render
from a2p_engine.types import Term
from streaming.errors import BadCommand, BadJson
from streaming.glossaries import http
from streaming.glossaries.cache import Terms
from streaming.glossaries.records import StoredGlossary
from streaming.glossaries.service import Caller, GlossaryService, owner_of
from streaming.security.keys import Scope
from streaming.validation import JsonObject, parse_object

PREFIX = "/api/glossaries"
DEFAULT_PAGE_TERMS = 500
MAX_PAGE_TERMS = 5_000
MAX_EDIT_BYTES = 4 * 1024 * 1024  # parsed at once, which holds every other thread up
HELD_UPLOADS = 4  # of the largest size that may be in memory at the same time
CHANGING_THREADS = 2  # of their own, so that a long import keeps nothing else waiting
MAX_VERSION = 2**53

Authorise = Callable[[Request, Scope], Caller]
Handler = Callable[[Request], Awaitable[Response]]


class Everyone:
    """The caller where there are no keys."""

    name = "anonymous"
    key_id = None


def everyone(_request: Request, _scope: Scope) -> Caller:
    """Lets everybody do everything."""
    return Everyone()


def glossary_routes(
    service: GlossaryService, *, max_upload_bytes: int, authorise: Authorise = everyone
) -> list[BaseRoute]:
    """The routes.

    Args:
        service: the glossaries.
        max_upload_bytes: longest body.
        authorise: tells who sends a request; raises if it may not.
    """
    api = _Api(service, authorise, max_upload_bytes)
    item = f"{PREFIX}/{{name}}"
    return [
        Route(PREFIX, _answered(api.index), methods=["GET"]),
        Route(item, _answered(api.read), methods=["GET"]),
        Route(item, _answered(api.put), methods=["PUT"]),
        Route(item, _answered(api.patch), methods=["PATCH"]),
        Route(item, _answered(api.delete), methods=["DELETE"]),
        Route(f"{item}/history", _answered(api.history), methods=["GET"]),
        Route(f"{item}/restore", _answered(api.restore), methods=["POST"]),
    ]


def _answered(handler: Handler) -> Handler:
    """Turns errors that clients cause, or must know of, into responses."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except http.EXPECTED as error:
            return http.refusal(error)

    return answer


class _Api:
    def __init__(
        self, service: GlossaryService, authorise: Authorise, max_upload_bytes: int
    ) -> None:
        self._service = service
        self._authorise = authorise
        self._max_upload_bytes = max_upload_bytes
        self._max_edit_bytes = min(max_upload_bytes, MAX_EDIT_BYTES)
        self._held_bytes = 0
        self._changing = ThreadPoolExecutor(CHANGING_THREADS, thread_name_prefix="glossary-api")

    async def index(self, request: Request) -> Response:
        """All that the caller may use."""
        caller = self._authorise(request, "glossary:read")
        http.check_query(request, ())
        listed = [http.described(stored) for stored in self._service.visible(caller)]
        stored = {each["name"] for each in listed if not each["shared"]}
        files = ((name, len(terms)) for name, terms in self._service.files().items())
        listed += [_described_file(name, size) for name, size in files if name not in stored]
        return JSONResponse({"glossaries": sorted(listed, key=lambda each: str(each["name"]))})

    async def read(self, request: Request) -> Response:
        """A page of terms, or with ``form`` all of them as a file."""
        caller = self._authorise(request, "glossary:read")
        query = http.check_query(request, ("version", "after", "limit", "form"))
        version = http.whole_number(query, "version", 0, 0, MAX_VERSION)
        limit = http.whole_number(query, "limit", DEFAULT_PAGE_TERMS, 1, MAX_PAGE_TERMS)
        form, after = query.get("form"), query.get("after", "")
        if form is not None and form not in WRITTEN:
            raise http.BadRequest(f"form={form}: accepted are {', '.join(WRITTEN)}")
        name = request.path_params["name"]
        file = self._service.file(name, caller)
        if file is not None:
            terms = await asyncio.to_thread(self._service.terms, name, caller)
            return await _read_file(name, terms, form, after, limit)
        stored = await asyncio.to_thread(self._find, name, caller, version)
        headers = {"ETag": http.etag(stored)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if form is not None:
            return _download(name, render(self._service.store.terms(stored), form), form, headers)
        return await asyncio.to_thread(self._page, stored, after, limit, headers)

    async def history(self, request: Request) -> Response:
        """The versions that are kept."""
        caller = self._authorise(request, "glossary:read")
        http.check_query(request, ())
        stored = await asyncio.to_thread(self._find, request.path_params["name"], caller)
        versions = await asyncio.to_thread(self._service.store.history, stored)
        # Who works on what belongs to everybody is not everybody's business.
        own = stored.owner == owner_of(caller)
        listed = [http.listed_version(version, with_author=own) for version in versions]
        body = {"name": stored.name, "versions": listed}
        return JSONResponse(body, headers={"ETag": http.etag(stored)})

    async def put(self, request: Request) -> Response:
        """Store a glossary."""
        query = http.check_query(request, ("form", "language", "target", "shared", "if_version"))
        shared = http.flag(query, "shared")
        caller = self._writer(request, shared)
        form, name = http.form_of(request), request.path_params["name"]
        languages = Languages(query.get("language"), query.get("target"))
        if_version = _if_version(query)

        def work(body: bytes) -> Response:
            parsed = glossary.parse(body, form, languages)
            if parsed.rejected and not parsed.terms:
                entry, reason = parsed.rejected[0]
                raise GlossaryError(f"nothing in it can be used; {entry!r}: {reason}")
            expected = self._expected(request, caller, shared, if_version)
            change = self._service.replace(
                caller, name, parsed.terms, shared=shared, if_version=expected
            )
            return http.outcome(change, parsed)

        return await self._with_body(request, self._max_upload_bytes, work)

    async def patch(self, request: Request) -> Response:
        """Change some terms."""
        shared = http.flag(http.check_query(request, ("shared",)), "shared")
        caller = self._writer(request, shared)
        name = request.path_params["name"]

        def work(body: bytes) -> Response:
            message = _json_object(request, body)
            add = message.items("add", (str, dict), "a list of strings and objects")
            remove = message.items("remove", (str,), "a list of strings")
            if_version = _version(message, "if_version")
            message.done()
            parsed = glossary.parse_entries(add)
            expected = self._expected(request, caller, shared, if_version)
            change = self._service.edit(
                caller, name, add=parsed.terms, remove=remove, shared=shared, if_version=expected
            )
            return http.outcome(change, parsed)

        return await self._with_body(request, self._max_edit_bytes, work)

    async def restore(self, request: Request) -> Response:
        """Bring an old version back."""
        shared = http.flag(http.check_query(request, ("shared",)), "shared")
        caller = self._writer(request, shared)
        name = request.path_params["name"]

        def work(body: bytes) -> Response:
            message = _json_object(request, body)
            version, if_version = _version(message, "version"), _version(message, "if_version")
            message.done()
            if version is None:
                raise BadCommand("version is missing; it is the number of the version to restore")
            expected = self._expected(request, caller, shared, if_version)
            change = self._service.restore(
                caller, name, version, shared=shared, if_version=expected
            )
            return http.outcome(change)

        return await self._with_body(request, self._max_edit_bytes, work)

    async def delete(self, request: Request) -> Response:
        """Delete a glossary with its history."""
        query = http.check_query(request, ("shared", "if_version"))
        shared, if_version = http.flag(query, "shared"), _if_version(query)
        caller = self._writer(request, shared)

        def work() -> Response:
            expected = self._expected(request, caller, shared, if_version)
            name = request.path_params["name"]
            self._service.delete(caller, name, shared=shared, if_version=expected)
            return Response(status_code=204)

        return await self._change(work)

    def _writer(self, request: Request, shared: bool) -> Caller:
        caller = self._authorise(request, "glossary:write")
        return self._authorise(request, "admin") if shared else caller

    def _expected(
        self, request: Request, caller: Caller, shared: bool, if_version: int | None
    ) -> int | None:
        name, existing = request.path_params["name"], request.method != "PUT"
        owner = self._service.owner_to_change(caller, name, shared, existing=existing)
        stored = self._service.store.find(owner, name)
        return http.expected_version(request, stored, if_version)

    async def _with_body(
        self, request: Request, max_bytes: int, work: Callable[[bytes], Response]
    ) -> Response:
        """Take the body and do the work, within the memory that bodies may take."""
        size = http.announced_bytes(request, max_bytes)
        if self._held_bytes + size > HELD_UPLOADS * self._max_upload_bytes:
            raise http.TooManyUploads("there is no room for another upload now; try again")
        self._held_bytes += size
        try:
            body = await http.read_body(request, size)
            return await self._change(lambda: work(body))
        finally:
            self._held_bytes -= size

    async def _change(self, work: Callable[[], Response]) -> Response:
        return await asyncio.get_running_loop().run_in_executor(self._changing, work)

    def _find(self, name: str, caller: Caller, version: int = 0) -> StoredGlossary:
        stored = self._service.find(name, caller)
        return self._service.store.at(stored, version) if version else stored

    def _page(
        self, stored: StoredGlossary, after: str, limit: int, headers: dict[str, str]
    ) -> Response:
        page = self._service.store.page(stored, after=after, limit=limit)
        return JSONResponse(http.described(stored) | _entries(page, limit), headers=headers)


async def _read_file(name: str, terms: Terms, form: str | None, after: str, limit: int) -> Response:
    """A glossary of the server's files, which has no versions."""
    if form is not None:
        return _download(name, render(terms, form), form, {})
    following = (term for term in terms if term.text > after)
    page = await asyncio.to_thread(heapq.nsmallest, limit, following, lambda term: term.text)
    return JSONResponse(_described_file(name, len(terms)) | _entries(page, limit))


def _described_file(name: str, terms: int) -> dict[str, Any]:
    return {"name": name, "version": None, "terms": terms, "shared": True}


def _entries(page: list[Term], limit: int) -> dict[str, Any]:
    following = page[-1].text if len(page) == limit else None
    return {"entries": [as_object(term) for term in page], "next": following}


def _download(name: str, parts: Any, form: str, headers: dict[str, str]) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(f'{name}.{form}')}"
    headers = headers | {"Content-Disposition": disposition}
    return StreamingResponse(parts, media_type=MEDIA_TYPES[form], headers=headers)


def _if_version(query: Any) -> int | None:
    if "if_version" not in query:
        return None
    return http.whole_number(query, "if_version", 0, 0, MAX_VERSION)


def _json_object(request: Request, body: bytes) -> JsonObject:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # Also keeps pages of other origins out: a browser asks before it sends this type.
        raise http.UnknownForm(f"content type {media or 'none'}; accepted: application/json")
    try:
        return JsonObject(parse_object(body.decode()), BadCommand)
    except (BadJson, UnicodeDecodeError) as error:
        raise BadCommand(f"the body must be a JSON object: {error}") from None


def _version(message: JsonObject, key: str) -> int | None:
    value = message.take(key)
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_VERSION):
        message.fail(key, value, "the number of a version")
    return value
