r"""The forms of a glossary: bytes to entries, and terms back to text.

``txt`` is one term a line, where ``#`` begins a comment line and ``\#`` a term that begins with
``#``. ``csv`` and ``tsv`` have a first line that names the columns. ``json`` is a list of strings
and objects, or a term bank: an object with a list for each language, aligned by position. ``tbx``
is read and not written.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from a2p_engine import tbx
from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term

FIELDS = ("term", "sounds_like", "target", "weight", "enabled")
READ = ("txt", "csv", "tsv", "json", "tbx")
WRITTEN = ("txt", "csv", "tsv", "json")
MEDIA_TYPES = {
    "txt": "text/plain",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
}
DEFAULT_LANGUAGE = "en"
_PART = 1000  # terms written in one piece
_SPACES = re.compile(r"[ \t\r\n]*")


class Languages(NamedTuple):
    """What to read of a glossary in several languages; other forms do not ask.

    Attributes:
        spoken: language of the terms; None is English if it is there, or the only one.
        target: language of their translations; None is the other one of two.
    """

    spoken: str | None = None
    target: str | None = None


AS_USUAL = Languages()


def entries(data: bytes, form: str, languages: Languages) -> tuple[Iterable[Any], list[str]]:
    """What a glossary says, unchecked and perhaps lazily, and remarks on it as a whole.

    Raises:
        GlossaryError: the form is unknown or the bytes are not in it; perhaps only on the way.
    """
    if form == "tbx":
        return _paired(tbx.read_concepts(data), languages), []
    text, notes = _decode(data)
    match form:
        case "json":
            return _from_json(text, languages), notes
        case "csv" | "tsv":
            return _from_table(text, _delimiter(form)), notes
        case "txt":
            return _from_lines(text), notes
    raise GlossaryError(f"unknown form {form!r}; accepted are {', '.join(READ)}")


def render(terms: Iterable[Term], form: str) -> Iterator[str]:
    """Terms as text, in pieces of about a thousand.

    All but ``txt``, which has the terms alone, are read back as they were.

    Raises:
        GlossaryError: the form is not one that is written.
    """
    writers: dict[str, Callable[[Iterable[Term]], Iterator[str]]] = {
        "txt": _lines,
        "csv": lambda terms: _table(terms, ","),
        "tsv": lambda terms: _table(terms, "\t"),
        "json": _json,
    }
    if form not in writers:
        raise GlossaryError(f"cannot write the form {form!r}; accepted are {', '.join(WRITTEN)}")
    return _in_parts(writers[form](terms))


def as_object(term: Term) -> dict[str, Any]:
    """A term as JSON glossaries have it, without what is as usual."""
    values: dict[str, Any] = {"term": term.text}
    if term.sounds_like:
        values["sounds_like"] = list(term.sounds_like)
    if term.target is not None:
        values["target"] = term.target
    if term.weight != 1.0:
        values["weight"] = term.weight
    if not term.enabled:
        values["enabled"] = False
    return values


def _decode(data: bytes) -> tuple[str, list[str]]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace"), ["read as UTF-16"]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        # Spreadsheets still export Windows-1252, a superset of printable Latin-1.
        return data.decode("cp1252", errors="replace"), ["not UTF-8, read as Windows-1252"]


def _from_lines(text: str) -> Iterator[str]:
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            yield re.sub(r"^\\(\\*#)", r"\1", line)


def _from_table(text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    try:
        if "term" not in (reader.fieldnames or ()):
            raise GlossaryError("the first line must name the columns, 'term' among them")
        for row in reader:
            yield {key: value for key, value in row.items() if key is not None}
    except csv.Error as error:
        raise GlossaryError(f"line {reader.line_num}: {error}") from None


def _from_json(text: str, languages: Languages) -> Iterable[Any]:
    try:
        start = _SPACES.match(text).end()  # type: ignore[union-attr]  # it matches always
        if text.startswith("[", start):
            return _json_items(text, start + 1)
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GlossaryError(f"not JSON: {error}") from None
    if not isinstance(value, dict) or not all(map(_is_text_list, value.values())):
        raise GlossaryError(
            "JSON must be a list of strings or objects, or an object with a list of strings for "
            "each language"
        )
    return _from_bank(value, languages)


def _json_items(text: str, at: int) -> Iterator[Any]:
    """The items of a list one by one.

    A list of a million at once would keep every other thread waiting for seconds.
    """
    decode = json.JSONDecoder().raw_decode
    at = _after_spaces(text, at)
    try:
        while not text.startswith("]", at):
            item, at = decode(text, at)
            yield item
            at = _after_spaces(text, at)
            if text.startswith("]", at):
                break
            if not text.startswith(",", at):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _after_spaces(text, at + 1)
            if text.startswith("]", at):
                raise json.JSONDecodeError("Illegal trailing comma before end of array", text, at)
        if (rest := _after_spaces(text, at + 1)) != len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
    except (ValueError, RecursionError) as error:
        raise GlossaryError(f"not JSON: {error}") from None


def _after_spaces(text: str, at: int) -> int:
    match = _SPACES.match(text, at)
    return match.end() if match else at


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _from_bank(bank: dict[str, list[str]], languages: Languages) -> Iterator[dict[str, Any]]:
    if len({len(column) for column in bank.values()}) > 1:
        sizes = ", ".join(f"{len(column)} in {tag!r}" for tag, column in bank.items())
        raise GlossaryError(f"the lists of a term bank must be equally long; there are {sizes}")
    tags = [tag.replace("_", "-").lower() for tag in bank]
    rows = (
        {tag: [text] for tag, text in zip(tags, row, strict=True) if text.strip()}
        for row in zip(*bank.values(), strict=True)
    )
    return _chosen(rows, tags, languages)


def _paired(concepts: list[tbx.Concept], languages: Languages) -> Iterator[dict[str, Any]]:
    tags = list(dict.fromkeys(tag for concept in concepts for tag in concept))
    return _chosen(concepts, tags, languages)


def _chosen(
    concepts: Iterable[tbx.Concept], tags: list[str], languages: Languages
) -> Iterator[dict[str, Any]]:
    """An entry for each term of the spoken language, with the concept's first translation."""
    spoken, target = _pick(tags, languages)
    for concept in concepts:
        terms = _of(concept, spoken)
        translation = next(iter(_of(concept, target)), None) if target else None
        for text in terms:
            yield {"term": text, "target": translation}


def _of(concept: tbx.Concept, language: str) -> list[str]:
    return [text for tag, texts in concept.items() if _matches(tag, language) for text in texts]


def _pick(tags: list[str], languages: Languages) -> tuple[str, str | None]:
    """Which languages of a glossary are read."""
    if not tags:
        return DEFAULT_LANGUAGE, None
    known = list(dict.fromkeys(tag.partition("-")[0] for tag in tags))
    spoken = _asked(languages.spoken, tags) or (known[0] if len(known) == 1 else DEFAULT_LANGUAGE)
    if spoken.partition("-")[0] not in known:
        raise GlossaryError(f"it is in {', '.join(known)}; say which language is spoken")
    others = [tag for tag in known if tag != spoken.partition("-")[0]]
    target = _asked(languages.target, tags)
    return spoken, target or (others[0] if len(others) == 1 else None)


def _asked(language: str | None, tags: list[str]) -> str | None:
    if language is None:
        return None
    wanted = language.replace("_", "-").lower()
    if not any(_matches(tag, wanted) for tag in tags):
        raise GlossaryError(f"it has no language {language!r}; it has {', '.join(tags)}")
    return wanted


def _matches(tag: str, language: str) -> bool:
    """Basic filtering of RFC 4647, section 3.3.1: ``en`` is also ``en-gb``."""
    return tag == language or tag.startswith(f"{language}-")


def _delimiter(form: str) -> str:
    return "\t" if form == "tsv" else ","


def _lines(terms: Iterable[Term]) -> Iterator[str]:
    for term in terms:
        yield re.sub(r"^(\\*#)", r"\\\1", term.text) + "\n"


def _table(terms: Iterable[Term], delimiter: str) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    for term in terms:
        row = as_object(term)
        if term.sounds_like:
            row["sounds_like"] = "|".join(term.sounds_like)
        if not term.enabled:
            row["enabled"] = "false"
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json(terms: Iterable[Term]) -> Iterator[str]:
    before = "[\n"
    for term in terms:
        values = as_object(term)
        entry = values if len(values) > 1 else term.text
        yield before + json.dumps(entry, ensure_ascii=False)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _in_parts(pieces: Iterator[str]) -> Iterator[str]:
    while part := "".join(islice(pieces, _PART)):
        yield part
