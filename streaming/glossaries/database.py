"""The SQLite file of the glossary store: its tables, connections, transactions and errors."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streaming.glossaries.records import StoreBusy, StoreDamaged, StoreError, StoreFull

APPLICATION_ID = 0x41325047  # "A2PG"
SCHEMA_VERSION = 1
LOG_BYTES = 16 * 1024 * 1024  # of the write-ahead log that stay when a large import is over

# An owner is never empty, so that '' can stand for everybody where SQL's NULL equals nothing.
_SCHEMA = f"""
CREATE TABLE glossary (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, terms INTEGER NOT NULL,
    created_s REAL NOT NULL, changed_s REAL NOT NULL, UNIQUE (owner, name)
) STRICT;
CREATE TABLE version (
    glossary INTEGER NOT NULL REFERENCES glossary (id) ON DELETE CASCADE,
    version INTEGER NOT NULL, made_s REAL NOT NULL, author TEXT NOT NULL, action TEXT NOT NULL,
    terms INTEGER NOT NULL, added INTEGER NOT NULL, removed INTEGER NOT NULL,
    replaced INTEGER NOT NULL, PRIMARY KEY (glossary, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    glossary INTEGER NOT NULL REFERENCES glossary (id) ON DELETE CASCADE,
    text TEXT NOT NULL, from_version INTEGER NOT NULL, to_version INTEGER,
    sounds_like TEXT, target TEXT, weight REAL NOT NULL, enabled INTEGER NOT NULL,
    PRIMARY KEY (glossary, text, from_version)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_gone ON entry (glossary, to_version) WHERE to_version IS NOT NULL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION}
"""


class Database:
    """Transactions on the file, from any thread.

    Args:
        path: the file, made if it does not exist; the write-ahead log lies beside it.
        max_bytes: how large it may become; None is as large as the disk lets it.
        busy_s: how long a writer waits for others.

    Raises:
        StoreError: it cannot be opened, or is something else.
    """

    def __init__(self, path: Path, *, max_bytes: int | None, busy_s: float) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._busy_s = busy_s
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._lock = threading.Lock()
        try:
            # What somebody's glossary says is nobody else's business.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with self.writing() as db:
                _prepare(db)
        except OSError as error:
            raise StoreError(f"cannot open glossary store {path}: {error.strerror}") from error
        except StoreError as error:
            raise type(error)(f"cannot open {path}: {error}") from error

    def close(self) -> None:
        """Close the file; threads that are using it keep it open until they are done."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection in idle:
            connection.close()

    def check(self) -> None:
        """Read all of the file, which takes seconds for a large one.

        Raises:
            StoreDamaged: it is damaged.
        """
        with self.reading() as db:
            trouble = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if trouble != "ok" or db.execute("PRAGMA foreign_key_check").fetchone():
                raise StoreDamaged(f"the glossary store is damaged: {trouble}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is made altogether or not at all, one at a time.

        Raises:
            StoreError: it cannot be made.
        """
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction all of which sees the same state of the file; writers do not disturb it.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._take()
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection is not None:
                _give_up(connection)
            if isinstance(error, sqlite3.Error):
                raise _explained(error) from error
            raise
        self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = sqlite3.connect(
            self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            self._configure(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        if self._max_bytes is not None:
            page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {self._max_bytes // page_bytes}")


def _prepare(db: sqlite3.Connection) -> None:
    """Make the tables of a new file; refuse a file of somebody else."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    schema = db.execute("PRAGMA user_version").fetchone()[0]
    if (application, schema) == (APPLICATION_ID, SCHEMA_VERSION):
        return
    if application == APPLICATION_ID:
        raise StoreError(f"it is of schema {schema}; this program knows {SCHEMA_VERSION}")
    if application or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreDamaged("it is a database of another program")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)


def _give_up(connection: sqlite3.Connection) -> None:
    """Undo, and close the connection: it may be what is wrong."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    connection.close()


def _explained(error: sqlite3.Error) -> StoreError:
    """What an error of the library means to people."""
    name = getattr(error, "sqlite_errorname", "no code")
    match name.split("_")[1:2]:
        case ["FULL"]:
            return StoreFull("the glossary store or its disk is full; nothing was changed")
        case ["BUSY" | "LOCKED"]:
            return StoreBusy("others are writing to the glossary store; try again")
        case ["CORRUPT" | "NOTADB"]:
            return StoreDamaged(f"the glossary store is damaged or none: {error}")
    return StoreError(f"the glossary store cannot be used: {error} ({name})")
