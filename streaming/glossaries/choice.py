"""What a session listens for: which glossary its client means, and what becomes of it meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from a2p_engine import glossary
from a2p_engine.types import Term
from streaming.backend import Backend
from streaming.commands import GlossaryChoice
from streaming.errors import SettingsError
from streaming.glossaries.cache import Snapshot
from streaming.glossaries.records import Change
from streaming.glossaries.service import GlossaryService
from streaming.glossaries.store import GlossaryStore, Limits
from streaming.security.auth import ANONYMOUS, Principal
from streaming.settings import ServerSettings

logger = logging.getLogger(__name__)

Terms = tuple[Term, ...]
INDEX_SUFFIX = ".safetensors"


class Indexed(NamedTuple):
    """A glossary that the engine maps from a file and that is never seen here."""

    path: Path
    size: int

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """What a session begins with.

    Attributes:
        terms: to open it with; one object for all who mean the same, which the engine recognises.
        index: file of further terms.
        added: terms to add at once, and
        removed: texts of terms to take out, so that a changed glossary shares the index of what it
            was.
        rejected: (entry, reason) of the client's own entries that were not taken.
        snapshot: the stored glossary it is, to follow; None for others.
        name: of that glossary.
    """

    terms: Terms = ()
    index: Path | None = None
    added: Terms = ()
    removed: tuple[str, ...] = ()
    rejected: Sequence[tuple[str, str]] = ()
    snapshot: Snapshot | None = None
    name: str | None = None

    @property
    def all_terms(self) -> Terms:
        """What is listened for, but for the index's terms."""
        if not self.added and not self.removed:
            return self.terms
        gone = {*self.removed, *(term.text for term in self.added)}
        return (*(term for term in self.terms if term.text not in gone), *self.added)


def load_files(paths: Mapping[str, Path], engine: Backend) -> dict[str, Terms | Indexed]:
    """Read the server's glossaries; what they hold that cannot be used is logged.

    Raises:
        GlossaryError: a file cannot be read.
    """
    loaded: dict[str, Terms | Indexed] = {}
    for name, path in paths.items():
        if path.suffix == INDEX_SUFFIX:
            loaded[name] = Indexed(path, engine.load_index(path))
            continue
        parsed = glossary.load(path)
        loaded[name] = tuple(parsed.terms)
        for note in parsed.notes:
            logger.warning("glossary %s: %s", name, note)
        logger.info(
            "glossary %s: %d terms, %d rejected", name, len(parsed.terms), len(parsed.rejected)
        )
    return loaded


class SessionGlossaries:
    """Resolves what clients ask for.

    Attributes:
        service: the glossaries themselves.
    """

    def __init__(self, settings: ServerSettings, engine: Backend) -> None:
        """Read files and open the store.

        Raises:
            GlossaryError: one of them cannot be used.
            SettingsError: there is no glossary of the default's name.
        """
        limits = Limits(bytes=settings.max_glossary_store_bytes)
        path = settings.glossary_store
        self._store = None if path is None else GlossaryStore(path, limits)
        self._default = settings.default_glossary
        self.service = GlossaryService(self._store, load_files(settings.glossaries, engine))
        known = self.service.names(ANONYMOUS)
        if self._default is not None and self._default not in known:
            listed = ", ".join(known) or "none"
            raise SettingsError(f"default_glossary {self._default!r} is not one of: {listed}")

    def close(self) -> None:
        """Give the store back."""
        if self._store is not None:
            self._store.close()

    def choose(self, choice: GlossaryChoice, principal: Principal) -> Chosen:
        """What a choice means for a client; blocks while a stored glossary is read.

        Raises:
            GlossaryError: it cannot be read, or is gone.
        """
        name = self._default if choice.default else choice.name
        named = Chosen() if name is None else self._named(name, principal)
        parsed = glossary.parse_entries(choice.entries)
        if not parsed.terms:
            return replace(named, rejected=parsed.rejected)
        if named.snapshot is None and not named.added:
            known = {term.text for term in named.terms}
            fresh = tuple(term for term in parsed.terms if term.text not in known)
            return replace(named, terms=(*named.terms, *fresh), rejected=parsed.rejected)
        return replace(named, added=(*named.added, *parsed.terms), rejected=parsed.rejected)

    def save(
        self, chosen: Chosen, principal: Principal
    ) -> Callable[[Sequence[Term], Sequence[str]], Change] | None:
        """What writes a session's edits into its glossary; None if the client may not."""
        if chosen.snapshot is None or chosen.name is None or not principal.may("glossary:write"):
            return None
        edit = partial(self.service.edit, principal, chosen.name)
        return lambda add, remove: edit(add=add, remove=remove)

    def _named(self, name: str, principal: Principal) -> Chosen:
        file = self.service.file(name, principal)
        if isinstance(file, Indexed):
            return Chosen(index=file.path)
        snapshot = self.service.snapshot(name, principal)
        stored = snapshot if snapshot.stored is not None else None
        return Chosen(
            terms=snapshot.base,
            added=snapshot.added,
            removed=snapshot.removed,
            snapshot=stored,
            name=name,
        )
