"""Reading glossaries: files and inline entries become ``Term`` records, rejects get a reason.

Rules, the same for every source: text is NFC-normalised, white space is collapsed, repeats are
dropped, and an entry needs a letter or digit and at most ``MAX_TERM_CHARS`` characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from a2p_engine import glossary_formats
from a2p_engine.errors import GlossaryError
from a2p_engine.glossary_formats import AS_USUAL, FIELDS, Languages
from a2p_engine.types import Term

MAX_TERM_CHARS = 100
UNPRONOUNCED = "cannot be pronounced: give it a 'sounds_like'"
_LATIN = re.compile("[A-Za-z0-9]")  # what the phonemizer reads in any case


class Parsed(NamedTuple):
    """What came of reading a glossary.

    Attributes:
        terms: usable terms in the order read, without repeats.
        rejected: (entry, reason) for everything left out.
        notes: remarks on the source as a whole, such as a guessed text encoding.
    """

    terms: list[Term]
    rejected: list[tuple[str, str]]
    notes: list[str]


def load(path: Path | str, languages: Languages = AS_USUAL) -> Parsed:
    """Read a glossary file; its suffix decides the form.

    ``.txt`` (or none): one term a line, ``#`` starts a comment line. ``.csv``/``.tsv``: a header
    with ``term`` and optionally ``sounds_like`` (several separated by ``|``), ``target``,
    ``weight``, ``enabled`` (``true`` or ``false``).
    ``.json``: a list of strings or objects with those keys, or a term bank: an object with a list
    for each language, aligned by position. ``.tbx``: ISO 30042, version 2 or 3.

    Args:
        path: the file.
        languages: what to read of a term bank or TBX file.

    Raises:
        GlossaryError: the file cannot be read or is not in its form.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GlossaryError(f"cannot read glossary {path}: {error.strerror}") from error
    try:
        return parse(data, form_of(path), languages)
    except GlossaryError as error:
        raise GlossaryError(f"glossary {path}: {error}") from error


def form_of(path: Path) -> str:
    """The form of a glossary file.

    Raises:
        GlossaryError: the suffix belongs to none.
    """
    form = path.suffix.lower().removeprefix(".") or "txt"
    if form not in glossary_formats.READ:
        accepted = ", ".join(f".{known}" for known in glossary_formats.READ)
        raise GlossaryError(f"unknown form {path.suffix}; accepted are {accepted}")
    return form


def parse(data: bytes, form: str, languages: Languages = AS_USUAL) -> Parsed:
    """Read a glossary from bytes in one of ``glossary_formats.READ``.

    Raises:
        GlossaryError: the form is unknown or the bytes are not in it.
    """
    entries, notes = glossary_formats.entries(data, form, languages)
    return parse_entries(entries)._replace(notes=notes)


def parse_entries(entries: Iterable[str | Mapping[str, Any]]) -> Parsed:
    """Turn inline entries (strings or objects as in a JSON glossary) into terms."""
    terms: dict[str, Term] = {}
    rejected: list[tuple[str, str]] = []
    for entry in entries:
        try:
            term = _parse_entry(entry)
        except GlossaryError as error:
            rejected.append((_shown(entry), str(error)))
            continue
        if term.text in terms:
            rejected.append((term.text, "repeated"))
        else:
            terms[term.text] = term
    return Parsed(list(terms.values()), rejected, [])


def unpronounced(terms: Iterable[Term]) -> list[str]:
    """Texts of terms of which no spelling can be pronounced, so that they are never heard."""
    foreign = [term for term in terms if not term.text.isascii() and not _readable(term)]
    if not foreign:
        return []
    # Torch and the phonemizer take seconds, and few glossaries need them.
    from a2p_engine.retriever.phoneme_ctc import to_symbols
    from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms

    said = Pronouncer().phonemes(form for term in foreign for form in spoken_forms(term))
    ways = {term.text: [said[form] for form in spoken_forms(term)] for term in foreign}
    return [text for text, forms in ways.items() if not any(map(to_symbols, chain(*forms)))]


def _readable(term: Term) -> bool:
    return any(map(_LATIN.search, (term.text, *term.sounds_like)))


def normalise(text: str) -> str:
    """NFC, control and format characters dropped, white space collapsed to single spaces."""
    if text.isascii() and text.isprintable():  # nearly all of the longest glossaries
        return " ".join(text.split())
    kept = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    # Last, since dropping a character may bring a letter and its accent together.
    return unicodedata.normalize("NFC", " ".join(kept.split()))


def _parse_entry(entry: str | Mapping[str, Any]) -> Term:
    if isinstance(entry, str):
        return Term(text=_checked(entry))
    if not isinstance(entry, Mapping):
        raise GlossaryError("an entry is a string or an object with the key 'term'")
    unknown = sorted(set(map(str, entry)) - set(FIELDS))
    if unknown:
        raise GlossaryError(f"unknown key {unknown[0]!r}; accepted are {', '.join(FIELDS)}")
    if not isinstance(entry.get("term"), str):
        raise GlossaryError("the key 'term' is missing or not a string")
    return Term(
        text=_checked(entry["term"]),
        sounds_like=_sounds_like(entry.get("sounds_like")),
        target=_target(entry.get("target")),
        weight=_weight(entry.get("weight")),
        enabled=_enabled(entry.get("enabled")),
    )


def _checked(text: str) -> str:
    text = normalise(text)
    if not text:
        raise GlossaryError("blank")
    if len(text) > MAX_TERM_CHARS:
        raise GlossaryError(f"{len(text)} characters long; at most {MAX_TERM_CHARS} are accepted")
    if not any(char.isalnum() for char in text):
        raise GlossaryError("has no letter or digit")
    return text


def _sounds_like(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise GlossaryError("'sounds_like' must be a string or a list of strings")
    return tuple(_checked(item) for items in value for item in items.split("|"))


def _target(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise GlossaryError("'target' must be a string")
    return _checked(value)


def _weight(value: object) -> float:
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise GlossaryError("'weight' must be a number") from None
    if not 0.0 < weight <= 1000.0:
        raise GlossaryError("'weight' must be above 0 and at most 1000")
    return weight


def _enabled(value: object) -> bool:
    if value is None or value == "":
        return True
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    if not isinstance(value, bool):
        raise GlossaryError("'enabled' must be true or false")
    return value


def _shown(entry: object) -> str:
    text = entry if isinstance(entry, str) else str(entry)
    return text if len(text) <= 80 else text[:79] + "…"
