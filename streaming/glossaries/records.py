"""What the glossary store tells, and what can go wrong with a stored glossary.

GlossaryError (a2p_engine.errors)
├── UnknownGlossary       there is none of this name, or not in this version
├── VersionConflict       somebody else has changed it in the meantime
├── ReadOnlyGlossary      it may be used but not changed
├── TooMuch               more terms or glossaries than are accepted
└── StoreError            the store cannot be read or written
    ├── StoreFull         the disk is full, or the store as large as it may become
    ├── StoreBusy         others are writing for too long
    └── StoreDamaged      the file is no longer, or never was, a glossary store
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term

Action = Literal["import", "edit", "restore"]


class UnknownGlossary(GlossaryError):
    """There is no glossary of this name, or it has no such version (any more)."""


class VersionConflict(GlossaryError):
    """The glossary is not in the version that a change was meant for.

    Attributes:
        version: in which it is; None if there is none at all.
    """

    def __init__(self, message: str, version: int | None) -> None:
        super().__init__(message)
        self.version = version


class ReadOnlyGlossary(GlossaryError):
    """The glossary comes from a file of the server or belongs to everybody."""


class TooMuch(GlossaryError):
    """More terms in a glossary, or more glossaries, than are accepted."""


class StoreError(GlossaryError):
    """The store cannot be read or written."""


class StoreFull(StoreError):
    """The disk is full, or the store is as large as it may become; nothing was changed."""


class StoreBusy(StoreError):
    """Others were writing for too long; nothing was changed."""


class StoreDamaged(StoreError):
    """The file is damaged or no glossary store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredGlossary:
    """A glossary as it is now, without its terms.

    Attributes:
        id: never used again, not even for a glossary of the same name.
        owner: to whom it belongs; None is everybody.
        name: unique among the owner's.
        version: counts up from 1 with each change.
        terms: how many.
        created_s: when it was first stored, in seconds since 1970 (UTC).
        changed_s: when its version was made.
    """

    id: int
    owner: str | None
    name: str
    version: int
    terms: int
    created_s: float
    changed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVersion:
    """An entry of a glossary's history.

    Attributes:
        version: its number.
        made_s: when, in seconds since 1970 (UTC).
        author: who made it.
        action: how.
        terms: how many there were then.
        added: terms that were new.
        removed: terms that were taken out.
        replaced: terms whose fields were changed.
    """

    version: int
    made_s: float
    author: str
    action: Action
    terms: int
    added: int
    removed: int
    replaced: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What makes one version of a glossary out of an earlier one.

    Attributes:
        glossary: as it is afterwards.
        since: version before; 0 if there was none.
        added: terms that are new.
        replaced: terms with other fields than before, as they are now.
        removed: texts of terms that are gone.
        missing: texts that were to be removed and are not there.
    """

    glossary: StoredGlossary
    since: int
    added: tuple[Term, ...] = ()
    replaced: tuple[Term, ...] = ()
    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def add(self) -> tuple[Term, ...]:
        """What an engine must add; a term under the text of an old one replaces it there."""
        return self.added + self.replaced
