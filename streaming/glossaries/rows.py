"""Rows of the glossary store: what its queries ask and what they mean."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from a2p_engine.types import Term
from streaming.glossaries.records import (
    Action,
    Change,
    StoredGlossary,
    StoredVersion,
    UnknownGlossary,
    VersionConflict,
)

PART_TERMS = 20_000  # written at a time
CACHE_KIB = 2_000  # SQLite's own default
IMPORT_CACHE_KIB = 64 * 1024  # a million terms; without it their pages go to the log many times
GLOSSARIES = (
    "SELECT id, nullif(owner, '') AS owner, name, version, terms, created_s, changed_s "
    "FROM glossary"
)
TERMS = "SELECT text, sounds_like, target, weight, enabled FROM entry WHERE glossary = :id"
THEN = "from_version <= :version AND (to_version IS NULL OR to_version > :version)"
_VERSIONS = (
    "SELECT version, made_s, author, action, terms, added, removed, replaced "
    "FROM version WHERE glossary = :id"
)


def find(db: sqlite3.Connection, owner: str | None, name: str) -> StoredGlossary | None:
    """An owner's glossary of this name."""
    row = db.execute(f"{GLOSSARIES} WHERE owner = ? AND name = ?", (owner or "", name)).fetchone()
    return StoredGlossary(**row) if row else None


def require(stored: StoredGlossary | None, name: str, version: int | None) -> StoredGlossary:
    """A glossary that must be there, in this version if one is given.

    Raises:
        UnknownGlossary: it is not there.
        VersionConflict: it has another version.
    """
    if stored is None:
        raise UnknownGlossary(f"there is no glossary {name!r}")
    expect(stored, version)
    return stored


def expect(stored: StoredGlossary | None, version: int | None) -> None:
    """Check that a glossary, or none, has a version, or 0.

    Raises:
        VersionConflict: it has another one.
    """
    if version is None or version == (stored.version if stored else 0):
        return
    if stored is None:
        raise VersionConflict(f"there is no such glossary, in version {version} or another", None)
    raise VersionConflict(
        f"the glossary is in version {stored.version}, not {version}: it was changed in the "
        "meantime; read it again",
        stored.version,
    )


def versions(db: sqlite3.Connection, stored: StoredGlossary) -> list[StoredVersion]:
    """The versions that are kept, the latest first."""
    rows = db.execute(f"{_VERSIONS} ORDER BY version DESC", {"id": stored.id})
    return [StoredVersion(**row) for row in rows]


def at_version(db: sqlite3.Connection, stored: StoredGlossary, version: int) -> StoredGlossary:
    """The glossary as it was.

    Raises:
        UnknownGlossary: it was deleted, has no such version, or it is no longer kept.
    """
    asked = {"id": stored.id, "version": version}
    row = db.execute(f"{_VERSIONS} AND version = :version", asked).fetchone()
    if row is None:
        raise UnknownGlossary(f"glossary {stored.name!r} has no version {version} (any more)")
    return replace(stored, version=version, terms=row["terms"], changed_s=row["made_s"])


def read(db: sqlite3.Connection, stored: StoredGlossary) -> dict[str, Term]:
    """All terms of a version by their text."""
    asked = {"id": stored.id, "version": stored.version}
    return {row[0]: term(row) for row in db.execute(f"{TERMS} AND {THEN}", asked)}


def current(
    db: sqlite3.Connection, stored: StoredGlossary, texts: Iterable[str]
) -> dict[str, Term]:
    """Those of the texts that are terms now."""
    query = f"{TERMS} AND text = :text AND to_version IS NULL"
    rows = (db.execute(query, {"id": stored.id, "text": text}).fetchone() for text in texts)
    return {row[0]: term(row) for row in rows if row}


def remove(db: sqlite3.Connection, stored: StoredGlossary, texts: Iterable[str]) -> None:
    """Let terms end before the version of ``stored``."""
    db.executemany(
        "UPDATE entry SET to_version = ? WHERE glossary = ? AND text = ? AND to_version IS NULL",
        ((stored.version, stored.id, text) for text in texts),
    )


def insert(db: sqlite3.Connection, stored: StoredGlossary, terms: Sequence[Term]) -> None:
    """Let terms begin with the version of ``stored``."""
    if len(terms) > PART_TERMS:
        db.execute(f"PRAGMA cache_size = -{IMPORT_CACHE_KIB}")
    for at in range(0, len(terms), PART_TERMS):
        # Nearly in the order of the table, which saves work; sorting all would keep other threads
        # waiting for a second.
        part = sorted(terms[at : at + PART_TERMS], key=lambda term: term.text)
        db.executemany(
            "INSERT INTO entry (glossary, from_version, text, sounds_like, target, weight, "
            "enabled) VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((stored.id, stored.version, *_fields(term)) for term in part),
        )
    if len(terms) > PART_TERMS:
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA shrink_memory")


def add_version(
    db: sqlite3.Connection, after: StoredGlossary, change: Change, author: str, action: Action
) -> None:
    """Make the version of ``after`` the current one."""
    db.execute(
        "UPDATE glossary SET version = ?, terms = ?, changed_s = ? WHERE id = ?",
        (after.version, after.terms, after.changed_s, after.id),
    )
    sizes = (len(change.added), len(change.removed), len(change.replaced))
    db.execute(
        "INSERT INTO version (glossary, version, made_s, author, action, terms, added, removed, "
        "replaced) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (after.id, after.version, after.changed_s, author, action, after.terms, *sizes),
    )


def forget(db: sqlite3.Connection, stored: StoredGlossary, oldest: int) -> None:
    """Drop the versions before ``oldest`` and what was there in none since."""
    if oldest > 1:
        key = (stored.id, oldest)
        db.execute("DELETE FROM entry WHERE glossary = ? AND to_version <= ?", key)
        db.execute("DELETE FROM version WHERE glossary = ? AND version < ?", key)


def term(row: Sequence[Any]) -> Term:
    """A row of ``TERMS``."""
    text, sounds_like, target, weight, enabled = row
    return Term(
        text=text,
        sounds_like=tuple(json.loads(sounds_like)) if sounds_like else (),
        target=target,
        weight=weight,
        enabled=bool(enabled),
    )


def _fields(term: Term) -> tuple[Any, ...]:
    sounds_like = json.dumps(term.sounds_like, ensure_ascii=False) if term.sounds_like else None
    return (term.text, sounds_like, term.target, float(term.weight), int(term.enabled))
