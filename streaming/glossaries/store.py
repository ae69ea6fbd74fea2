"""Named glossaries in one SQLite file, with the versions they had.

A term is a row that says from which version on it is there and in which it is gone, so a change
costs what it changes, any version that is kept can be read, and pages of one version fit together
while others write. The file survives a killed process and a loss of power: changes go to a log that
is synced before they count, and each is made altogether or not at all.

All methods block; call them in threads. Any number of threads and processes may share a file.
"""

from __future__ import annotations

import re
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from a2p_engine import glossary
from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term
from streaming.glossaries import rows
from streaming.glossaries.database import Database
from streaming.glossaries.records import (
    Action,
    Change,
    StoredGlossary,
    StoredVersion,
    StoreError,
    TooMuch,
)

NAME = re.compile(r"\w(?:[\w .-]{0,62}\w)?")
PAGE_TERMS = 5_000  # read at a time, so that no reader holds up the write-ahead log for long


class Limits(NamedTuple):
    """How much a store takes.

    Attributes:
        terms: in a glossary.
        glossaries: of an owner.
        versions: of a glossary that are kept; older ones are forgotten.
        bytes: of the file; None is as much as the disk has.
    """

    terms: int = 2_000_000
    glossaries: int = 1_000
    versions: int = 100
    bytes: int | None = None


class GlossaryStore:
    """Reads and writes the file; see the module.

    An owner that is None is everybody. Methods that change something take ``if_version``, the
    version that the glossary must have now, where 0 means that there must be none; and raise
    ``VersionConflict`` if it has not, and ``StoreError`` if nothing can be written. Either way
    nothing is changed.

    Args:
        path: the file; its log lies beside it.
        limits: how much it takes.
        create: whether a new file may be made.
        busy_s: how long a change waits for others to finish theirs.
        clock: seconds since 1970.

    Raises:
        StoreError: the file cannot be opened, or is no glossary store.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits | None = None,
        *,
        create: bool = True,
        busy_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not create and not path.is_file():
            raise StoreError(f"there is no glossary store {path}")
        self._limits = limits or Limits()
        self._clock = clock
        self._database = Database(path, max_bytes=self._limits.bytes, busy_s=busy_s)
        self.close = self._database.close
        self.check = self._database.check

    def glossaries(self, *owners: str | None) -> list[StoredGlossary]:
        """The glossaries of these owners by name; of everyone if none is given."""
        with self._database.reading() as db:
            found = db.execute(f"{rows.GLOSSARIES} ORDER BY name, owner").fetchall()
        stored = [StoredGlossary(**row) for row in found]
        return [each for each in stored if not owners or each.owner in owners]

    def find(self, owner: str | None, name: str) -> StoredGlossary | None:
        """An owner's glossary of this name."""
        with self._database.reading() as db:
            return rows.find(db, owner, unicodedata.normalize("NFC", name))

    def by_id(self, glossary_id: int) -> StoredGlossary | None:
        """A glossary as it is now, unless it was deleted."""
        with self._database.reading() as db:
            row = db.execute(f"{rows.GLOSSARIES} WHERE id = ?", (glossary_id,)).fetchone()
        return StoredGlossary(**row) if row else None

    def history(self, stored: StoredGlossary) -> list[StoredVersion]:
        """The versions that are kept, the latest first."""
        with self._database.reading() as db:
            return rows.versions(db, stored)

    def at(self, stored: StoredGlossary, version: int) -> StoredGlossary:
        """The glossary as it was in a version.

        Raises:
            UnknownGlossary: it was deleted, has no such version, or it is no longer kept.
        """
        with self._database.reading() as db:
            return rows.at_version(db, stored, version)

    def page(self, stored: StoredGlossary, *, after: str = "", limit: int) -> list[Term]:
        """Terms of the version that ``stored`` has, in the order of their code points.

        Args:
            stored: of ``find`` or ``at``.
            after: text of the last term of the page before.
            limit: most terms.

        Raises:
            UnknownGlossary: it was deleted, or the version is no longer kept.
        """
        asked = {"id": stored.id, "version": stored.version, "after": after, "limit": limit}
        with self._database.reading() as db:
            rows.at_version(db, stored, stored.version)
            query = f"{rows.TERMS} AND text > :after AND {rows.THEN} ORDER BY text LIMIT :limit"
            return [rows.term(row) for row in db.execute(query, asked)]

    def terms(self, stored: StoredGlossary) -> Iterator[Term]:
        """All terms of the version that ``stored`` has, see ``page``."""
        after = ""
        while page := self.page(stored, after=after, limit=PAGE_TERMS):
            yield from page
            after = page[-1].text

    def changes(self, stored: StoredGlossary, since: int) -> Change:
        """What makes the version that ``stored`` has out of an earlier one.

        Raises:
            UnknownGlossary: the glossary was deleted, or one of the versions is no longer kept.
        """
        span = {"id": stored.id, "since": since, "version": stored.version}
        ended = "from_version <= :since AND to_version > :since AND to_version <= :version"
        with self._database.reading() as db:
            rows.at_version(db, stored, since)
            rows.at_version(db, stored, stored.version)
            gone = db.execute(f"{rows.TERMS} AND {ended}", span)
            before = {row[0]: rows.term(row) for row in gone}
            come = db.execute(f"{rows.TERMS} AND from_version > :since AND {rows.THEN}", span)
            now = {row[0]: rows.term(row) for row in come}
        return _difference(before, now, stored, since)

    def replace(
        self,
        owner: str | None,
        name: str,
        terms: Iterable[Term],
        *,
        author: str,
        if_version: int | None = None,
    ) -> Change:
        """Store a glossary; of one that is there, only what differs is changed.

        Args:
            owner: to whom it belongs.
            name: unique among the owner's.
            terms: all that it is to have.
            author: who does it, for the history.
            if_version: see the class.

        Raises:
            GlossaryError: the name cannot be one.
            TooMuch: there are more terms or glossaries than are accepted.
        """
        name = checked_name(name)
        with self._database.writing() as db:
            before = rows.find(db, owner, name)
            rows.expect(before, if_version)
            stored = before or self._create(db, owner, name)
            return self._replace(db, stored, terms, author, "import")

    def edit(
        self,
        owner: str | None,
        name: str,
        *,
        add: Sequence[Term] = (),
        remove: Iterable[str] = (),
        author: str,
        if_version: int | None = None,
    ) -> Change:
        """Change some terms; one that is both removed and added is added.

        Raises:
            UnknownGlossary: there is none of this name.
            TooMuch: there would be more terms than are accepted.
        """
        with self._database.writing() as db:
            stored = self._stored(db, owner, name, if_version)
            wanted = {term.text: term for term in add}
            unwanted = [text for text in map(glossary.normalise, remove) if text not in wanted]
            now = rows.current(db, stored, [*wanted, *unwanted])
            missing = tuple(text for text in dict.fromkeys(unwanted) if text not in now)
            change = replace(_difference(now, wanted, stored, stored.version), missing=missing)
            return self._apply(db, change, author, "edit")

    def restore(
        self,
        owner: str | None,
        name: str,
        version: int,
        *,
        author: str,
        if_version: int | None = None,
    ) -> Change:
        """Make a new version with the terms of an old one.

        Raises:
            UnknownGlossary: there is no such glossary or version.
        """
        with self._database.writing() as db:
            stored = self._stored(db, owner, name, if_version)
            then = rows.read(db, rows.at_version(db, stored, version))
            return self._replace(db, stored, then.values(), author, "restore")

    def delete(self, owner: str | None, name: str, *, if_version: int | None = None) -> None:
        """Delete a glossary with its history.

        Raises:
            UnknownGlossary: there is none of this name.
        """
        with self._database.writing() as db:
            stored = self._stored(db, owner, name, if_version)
            db.execute("DELETE FROM glossary WHERE id = ?", (stored.id,))

    def _stored(
        self, db: sqlite3.Connection, owner: str | None, name: str, version: int | None
    ) -> StoredGlossary:
        found = rows.find(db, owner, unicodedata.normalize("NFC", name))
        return rows.require(found, name, version)

    def _create(self, db: sqlite3.Connection, owner: str | None, name: str) -> StoredGlossary:
        counted = db.execute("SELECT count(*) FROM glossary WHERE owner = ?", (owner or "",))
        if (count := counted.fetchone()[0]) >= self._limits.glossaries:
            raise TooMuch(f"there are {count} glossaries already; delete one first")
        now = self._clock()
        db.execute(
            "INSERT INTO glossary (owner, name, version, terms, created_s, changed_s) "
            "VALUES (?, ?, 0, 0, ?, ?)",
            (owner or "", name, now, now),
        )
        return rows.require(rows.find(db, owner, name), name, None)

    def _replace(
        self,
        db: sqlite3.Connection,
        stored: StoredGlossary,
        terms: Iterable[Term],
        author: str,
        action: Action,
    ) -> Change:
        wanted = {term.text: term for term in terms}
        change = _difference(rows.read(db, stored), wanted, stored, stored.version)
        return self._apply(db, change, author, action)

    def _apply(self, db: sqlite3.Connection, change: Change, author: str, action: Action) -> Change:
        """Write a change, unless there is nothing to change."""
        before = change.glossary
        if before.version and not (change.add or change.removed):
            return change
        terms = before.terms + len(change.added) - len(change.removed)
        if terms > self._limits.terms:
            raise TooMuch(f"{terms} terms; at most {self._limits.terms} are accepted in a glossary")
        after = replace(before, version=before.version + 1, terms=terms, changed_s=self._clock())
        rows.remove(db, after, (*change.removed, *(term.text for term in change.replaced)))
        rows.insert(db, after, change.add)
        rows.add_version(db, after, change, author, action)
        rows.forget(db, after, after.version - self._limits.versions + 1)
        return replace(change, glossary=after)


def checked_name(name: str) -> str:
    """A name as it is stored.

    Raises:
        GlossaryError: it cannot be one.
    """
    name = unicodedata.normalize("NFC", name)
    if not NAME.fullmatch(name):
        raise GlossaryError(
            f"a glossary cannot be named {name[:80]!r}; accepted are up to 64 letters, digits and "
            "underscores, with spaces, dots and hyphens between them"
        )
    return name


def _difference(
    before: dict[str, Term], now: dict[str, Term], stored: StoredGlossary, since: int
) -> Change:
    """What makes some terms of a glossary out of those that were there."""
    return Change(
        glossary=stored,
        since=since,
        added=tuple(term for text, term in now.items() if text not in before),
        replaced=tuple(term for text, term in now.items() if before.get(text, term) != term),
        removed=tuple(text for text in before if text not in now),
    )
