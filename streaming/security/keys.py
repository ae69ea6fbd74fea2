"""API keys at rest: how they are made, and the file that holds what the server knows of them.

A key reads ``a2p_<id>_<secret>``. The id is public: it finds the key's record in one look-up, and
lists and logs name the key by it. The secret is 192 random bits, of which the server keeps only the
SHA-256 of the whole key. A slow password hash (scrypt, Argon2) would add nothing: it makes guesses
expensive where people choose the secret, and nobody guesses 192 random bits at any speed, while a
slow check would let whoever sends wrong keys keep the processor busy. A salt keeps equal secrets
from having equal hashes, and hashes from being computed beforehand; the id, which is hashed along
with the secret, is as good as one.

The file is JSON. It is read again whenever it has changed, so a key that is added or disabled
counts from the next connection on, without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streaming.errors import SettingsError

logger = logging.getLogger(__name__)

Scope = Literal["captions", "glossary:read", "glossary:write", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = ("captions", "glossary:read")

ID_BYTES = 4
SECRET_BYTES = 24
KEY = re.compile(rf"a2p_([0-9a-f]{{{2 * ID_BYTES}}})_[0-9a-f]{{{2 * SECRET_BYTES}}}")
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_READABLE = stat.S_IRGRP | stat.S_IROTH


class KeyLimits(BaseModel):
    """What one client may use; None is no limit of its own.

    Attributes:
        max_sessions: sessions open at the same time.
        sessions_per_minute: sessions opened; as many may come at once after a pause.
        audio_s_per_hour: seconds of audio sent; as many may come at once after a pause.
        max_session_s: longest session.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_sessions: int | None = Field(default=None, ge=1)
    sessions_per_minute: float | None = Field(default=None, ge=1)
    audio_s_per_hour: float | None = Field(default=None, ge=1)
    max_session_s: float | None = Field(default=None, ge=1)


class KeyRecord(BaseModel):
    """What the server knows of a key, which is not enough to use it.

    Attributes:
        id: the public part of the key.
        name: of the client. Several keys of one name are one client with several keys, which is
            how a key is replaced without a gap.
        sha256: of the whole key, in hexadecimal.
        scopes: what it opens; ``admin`` opens everything.
        limits: what it may use.
        created: when it was made (UTC).
        expires: the first day (UTC) on which it is refused.
        disabled: whether it is refused until further notice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$")
    name: str = Field(pattern=r"^[\w.@-][\w.@ -]{0,62}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    limits: KeyLimits = KeyLimits()
    created: date
    expires: date | None = None
    disabled: bool = False

    def matches(self, key: str) -> bool:
        """Whether ``key`` is the one this record was made of, in constant time."""
        return hmac.compare_digest(self.sha256, _digest(key))

    def expired(self, today: date) -> bool:
        """Whether its time is over."""
        return self.expires is not None and today >= self.expires


class _KeysDocument(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[KeyRecord, ...]


class NewKey(NamedTuple):
    """A key as its owner gets it, once, and as the server keeps it."""

    secret: str
    record: KeyRecord

    def __repr__(self) -> str:
        return f"NewKey(secret='***', record={self.record!r})"


def today_utc() -> date:
    """The day on which keys expire."""
    return datetime.now(UTC).date()


def new_key(
    name: str,
    scopes: Iterable[Scope] = DEFAULT_SCOPES,
    limits: KeyLimits | None = None,
    expires: date | None = None,
    *,
    taken: Iterable[str] = (),
) -> NewKey:
    """Make a key.

    Args:
        name: see ``KeyRecord``.
        scopes: see ``KeyRecord``.
        limits: see ``KeyRecord``.
        expires: see ``KeyRecord``.
        taken: ids that are in use.

    Raises:
        SettingsError: the name or another value cannot be used.
    """
    known = set(taken)
    while (key_id := secrets.token_hex(ID_BYTES)) in known:
        pass
    secret = f"a2p_{key_id}_{secrets.token_hex(SECRET_BYTES)}"
    try:
        record = KeyRecord(
            id=key_id,
            name=name,
            sha256=_digest(secret),
            scopes=tuple(dict.fromkeys(scopes)),
            limits=limits or KeyLimits(),
            created=today_utc(),
            expires=expires,
        )
    except ValidationError as error:
        raise SettingsError(f"cannot make a key: {_first_problem(error)}") from None
    return NewKey(secret, record)


def read_keys(path: Path) -> tuple[KeyRecord, ...]:
    """The records of a key file.

    Raises:
        SettingsError: it cannot be read, others may write it, or a record is not as it should be.
    """
    try:
        with path.open(encoding="utf-8") as file:
            _check_mode(path, os.fstat(file.fileno()))
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"cannot read keys {path}: {reason}") from None
    try:
        records = _KeysDocument.model_validate_json(text).keys
    except ValidationError as error:
        raise SettingsError(f"keys {path}: {_first_problem(error)}") from None
    ids = [record.id for record in records]
    if len(set(ids)) != len(ids):
        raise SettingsError(f"keys {path}: an id occurs twice")
    return records


def write_keys(path: Path, records: Iterable[KeyRecord]) -> None:
    """Write a key file that only its owner can read, at once or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    document = {"keys": [record.model_dump(mode="json", exclude_none=True) for record in records]}
    temporary = None
    try:
        # mkstemp gives mode 600.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(handle)
        _keep_owner(path, temporary)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise SettingsError(f"cannot write keys {path}: {error.strerror}") from error


class KeyFile:
    """The keys of a file, as the file is now.

    A file that becomes unreadable or wrong while the server runs leaves the keys as they were, and
    says so in the log: a slip of the editor must neither lock everybody out nor let anybody in.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SettingsError: see ``read_keys``.
        """
        self._path = path
        self._version = _version(path)
        self._records = {record.id: record for record in read_keys(path)}

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of a key's public part."""
        self._refresh()
        return self._records.get(key_id)

    def _refresh(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._records = {record.id: record for record in read_keys(self._path)}
        except SettingsError as error:
            logger.error("%s; the keys stay as they were", error)
        else:
            logger.info("keys %s: %d keys", self._path, len(self._records))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _version(path: Path) -> tuple[int, ...] | None:
    """Changes whenever the file does; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def _check_mode(path: Path, status: os.stat_result) -> None:
    if status.st_mode & _WRITABLE:
        raise SettingsError(f"others can write keys {path} and so let themselves in: chmod 600 it")
    if status.st_mode & _READABLE:
        logger.warning("others can read names and limits in keys %s: chmod 600 it", path)


def _keep_owner(path: Path, temporary: str) -> None:
    """An administrator who edits the file of a service must not take it away from the service."""
    if path.exists() and os.geteuid() == 0:
        before = path.stat()
        os.chown(temporary, before.st_uid, before.st_gid)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
