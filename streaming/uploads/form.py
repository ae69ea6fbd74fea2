"""The multipart form of an upload, as OpenAI's clients send it: read within bounds, and checked.

Fields that are not known are ignored, as each client has some more; a known field with a value that
cannot be used is an error that names it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, NoReturn, cast, get_args

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from a2p_engine.errors import InputError
from a2p_engine.types import EAGERNESS, Eagerness
from streaming.commands import GlossaryChoice, Offer
from streaming.dialects.realtime.prompt import terms_of
from streaming.vad import DEFAULT_DETECTOR, DETECTORS
from streaming.validation import shown

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
FORMATS: tuple[Format, ...] = get_args(Format)
GRANULARITIES = ("word", "segment")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
AUTO = "auto"

MULTIPART = "multipart/form-data"
SILENT_S = 20.0  # a client that sends nothing for so long is given up
FIELDS_BYTES = 1024 * 1024  # of everything that is not the file
MAX_FIELDS = 2_000  # each keyword of a list is one


class RequestRefused(InputError):
    """A request that cannot be answered as it was asked.

    Attributes:
        status: of the response.
        param: the field that is wrong, if it is one.
        code: a word for programs.
    """

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a client asks for.

    Attributes:
        data: the file.
        response_format: how to answer.
        language: ISO 639-1 code, or ``auto``.
        words: whether the answer tells the times of words.
        stream: whether to tell each segment as soon as it is there.
        glossary: the terms to listen for.
        threshold: how readily they are offered.
        vad: name of the voice detector.
    """

    data: bytes = field(repr=False)
    response_format: Format = "json"
    language: str = AUTO
    words: bool = False
    stream: bool = False
    glossary: GlossaryChoice = field(default_factory=GlossaryChoice)
    threshold: float | Eagerness = "balanced"
    vad: str = DEFAULT_DETECTOR


@asynccontextmanager
async def read_form(request: Request, max_bytes: int) -> AsyncIterator[FormData]:
    """Read the whole body, into memory alone.

    Args:
        request: nothing of it has been read.
        max_bytes: longest file.

    Raises:
        RequestRefused: it is no form, is too long, or does not come.
        ClientDisconnect: the client has gone.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != MULTIPART:
        text = f"the content type is {shown(content_type[:60])}; accepted: {MULTIPART}"
        raise RequestRefused(text, status=415, code="unsupported_media_type")
    too_long = RequestRefused(
        f"the file is too long; accepted: up to {max_bytes} bytes",
        status=413,
        param="file",
        code="file_too_large",
    )
    if (announced := request.headers.get("content-length", "")).isdigit():
        if int(announced) > max_bytes + FIELDS_BYTES:
            raise too_long
    body = _bounded(request, max_bytes + FIELDS_BYTES, too_long)
    parser = _InMemory(request.headers, body, max_files=1, max_fields=MAX_FIELDS)
    try:
        fields = await parser.parse()
    except MultiPartException as error:
        raise RequestRefused(f"the form cannot be read: {error.message}") from None
    try:
        yield fields
    finally:
        await fields.close()


class _InMemory(MultiPartParser):
    """Keeps files in memory, as nothing that was said is to be written to a disk."""

    spool_max_size = sys.maxsize  # the body is bounded before it gets here


async def _bounded(
    request: Request, max_bytes: int, too_long: RequestRefused
) -> AsyncGenerator[bytes, None]:
    got = 0
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                chunk = await anext(chunks, None)
        except TimeoutError:
            text = f"no data came for {SILENT_S:g} s"
            raise RequestRefused(text, status=408, code="timeout") from None
        if chunk is None:
            return
        got += len(chunk)
        if got > max_bytes:
            raise too_long
        yield chunk


def parse_form(fields: FormData, offer: Offer, max_bytes: int) -> Form:
    """Check a form.

    Raises:
        RequestRefused: a field is missing or has a value that is not offered.
    """
    response_format = _choice(fields, "response_format", "json", FORMATS)
    stream = _boolean(fields, "stream")
    if stream and response_format not in ("json", "text"):
        _refuse("response_format", response_format, "json or text, as stream is true")
    granularities = _all(fields, "timestamp_granularities")
    for value in granularities:
        if value not in GRANULARITIES:
            _refuse("timestamp_granularities", value, ", ".join(GRANULARITIES))
    words = "word" in granularities
    if words and response_format != "verbose_json":
        _refuse("response_format", response_format, "verbose_json, as times of words are wanted")
    _check_temperature(fields)
    return Form(
        data=_file(fields, max_bytes),
        response_format=cast(Format, response_format),
        language=_language(fields, offer),
        words=words,
        stream=stream,
        glossary=_glossary(fields, offer),
        threshold=_threshold(fields),
        vad=_choice(fields, "vad", DEFAULT_DETECTOR, DETECTORS),
    )


def _file(fields: FormData, max_bytes: int) -> bytes:
    file = fields.get("file")
    if not isinstance(file, UploadFile):
        raise RequestRefused("the form has no file", param="file", code="missing_required_field")
    data = file.file.read()
    if len(data) > max_bytes:
        text = f"the file has {len(data)} bytes; accepted: up to {max_bytes}"
        raise RequestRefused(text, status=413, param="file", code="file_too_large")
    return data


def _language(fields: FormData, offer: Offer) -> str:
    """The one language that is named, by its main subtag; else it is found out."""
    named = _text(fields, "language")
    several = _all(fields, "languages")
    value = named or (several[0] if len(several) == 1 else AUTO)
    language = value.replace("_", "-").partition("-")[0].lower()
    if language not in offer.languages:
        _refuse("language", value, ", ".join(sorted(offer.languages)))
    return language


def _glossary(fields: FormData, offer: Offer) -> GlossaryChoice:
    """The named glossary (an empty name: none; no name: the server's default) and further terms."""
    keywords = [
        keyword
        for value in _all(fields, "keywords")
        for piece in value.splitlines()
        for keyword in piece.split(",")
    ]
    listed = [*(word.strip() for word in keywords), *terms_of(_text(fields, "prompt") or "")]
    entries = tuple(dict.fromkeys(filter(None, listed)))
    name = _text(fields, "glossary")
    if name and name not in offer.glossaries:
        known = ", ".join(offer.glossaries) or "none, the server has no glossary"
        _refuse("glossary", name, known)
    return GlossaryChoice(name=name or None, entries=entries, default=name is None)


def _threshold(fields: FormData) -> float | Eagerness:
    value = _text(fields, "threshold")
    if value is None:
        return "balanced"
    if value in EAGERNESS:
        return value
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        _refuse("threshold", value, f"a number from 0 to 1, {', '.join(EAGERNESS)}")
    return number


def _check_temperature(fields: FormData) -> None:
    """There is nothing to choose: the speech LLM always writes what is most probable."""
    value = _text(fields, "temperature")
    if value:
        number = _number(value)
        if number is None or not 0 <= number <= 1:
            _refuse("temperature", value, "a number from 0 to 1")


def _boolean(fields: FormData, name: str) -> bool:
    value = _text(fields, name) or "false"
    if value.lower() not in BOOLEANS:
        _refuse(name, value, "true, false")
    return BOOLEANS[value.lower()]


def _choice(fields: FormData, name: str, default: str, accepted: Collection[str]) -> str:
    value = _text(fields, name) or default
    if value not in accepted:
        _refuse(name, value, ", ".join(accepted))
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(fields: FormData, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _all(fields: FormData, name: str) -> list[str]:
    """Values of a list, which clients send with brackets behind its name or without."""
    found = [*fields.getlist(f"{name}[]"), *fields.getlist(name)]
    return [value for value in found if isinstance(value, str) and value]


def _refuse(name: str, value: str, accepted: str) -> NoReturn:
    raise RequestRefused(
        f"{name} is {shown(value)}; accepted: {accepted}", param=name, code="invalid_value"
    )
