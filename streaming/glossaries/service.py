"""The glossaries of a server: whose they are, their terms in memory, and who hears of changes.

A name means the caller's own glossary, else a file of the server, else the one stored for
everybody. Without API keys all callers are everybody. What belongs to one key is neither shown nor
named to another.

What reads or writes blocks and belongs into a thread; ``names``, ``sizes``, ``file`` and
``subscribe`` do not. Changes by other processes, such as ``a2p glossary import``, are seen by
``follow``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term
from streaming.glossaries.cache import Snapshot, SnapshotCache, Terms
from streaming.glossaries.feed import Feed
from streaming.glossaries.records import (
    Change,
    ReadOnlyGlossary,
    StoredGlossary,
    StoreError,
    UnknownGlossary,
)
from streaming.glossaries.store import GlossaryStore

logger = logging.getLogger(__name__)

FOLLOW_S = 1.0


class Caller(Protocol):
    """Whoever asks: ``auth.Principal``, as far as glossaries are concerned."""

    @property
    def name(self) -> str:
        """To which its glossaries belong."""
        ...

    @property
    def key_id(self) -> str | None:
        """None for everybody on a server without keys."""
        ...


def owner_of(caller: Caller) -> str | None:
    """To whom the caller's glossaries belong; None is everybody."""
    return None if caller.key_id is None else caller.name


class GlossaryService:
    """See the module.

    Args:
        store: None for a server that stores none.
        files: glossaries of the server by name; those that are not terms (files that the engine
            maps) are named and handed out by ``file``, but cannot be read.
    """

    def __init__(
        self, store: GlossaryStore | None = None, files: Mapping[str, Sized] | None = None
    ) -> None:
        self._store = store
        self._files = dict(files or {})
        self._writing = threading.Lock()  # so that subscribers hear of changes in their order
        self._lock = threading.Lock()  # of what is known; never held while something blocks
        self._known = {each.id: each for each in store.glossaries()} if store else {}
        self._cache = SnapshotCache(store) if store else None
        self._feed = Feed()
        self._unreachable = False

    @property
    def store(self) -> GlossaryStore:
        """The store.

        Raises:
            ReadOnlyGlossary: the server has none.
        """
        if self._store is None:
            raise ReadOnlyGlossary("this server stores no glossaries (setting glossary_store)")
        return self._store

    def names(self, caller: Caller) -> tuple[str, ...]:
        """What the caller may ask for."""
        return tuple(self.sizes(caller))

    def sizes(self, caller: Caller) -> dict[str, int]:
        """Number of terms by name, of all that the caller may ask for."""
        owner = owner_of(caller)
        with self._lock:
            stored = [each for each in self._known.values() if each.owner in (None, owner)]
        sizes = {each.name: each.terms for each in stored if each.owner is None}
        sizes |= {name: len(terms) for name, terms in self._files.items()}
        if owner is not None:
            sizes |= {each.name: each.terms for each in stored if each.owner == owner}
        return sizes

    def visible(self, caller: Caller) -> list[StoredGlossary]:
        """Stored glossaries that the caller's names mean, by name."""
        owner = owner_of(caller)
        with self._lock:
            stored = [each for each in self._known.values() if each.owner in (None, owner)]
        own = {each.name for each in stored if each.owner == owner}
        hidden = self._files.keys() | own if owner is not None else self._files.keys()
        kept = (each for each in stored if each.owner is not None or each.name not in hidden)
        return sorted(kept, key=lambda each: each.name)

    def file(self, name: str, caller: Caller) -> Sized | None:
        """The server's file of this name, unless the caller means another glossary by it."""
        owner = owner_of(caller)
        with self._lock:
            stored = ((each.owner, each.name) for each in self._known.values())
            hidden = owner is not None and (owner, name) in stored
        return None if hidden else self._files.get(name)

    def files(self) -> dict[str, Sized]:
        """All files of the server."""
        return dict(self._files)

    def find(self, name: str, caller: Caller) -> StoredGlossary:
        """The stored glossary that a name means.

        Raises:
            UnknownGlossary: there is none for this caller.
            ReadOnlyGlossary: the name means a file.
        """
        owner = owner_of(caller)
        own = self.store.find(owner, name) if owner is not None and self._store else None
        if own is None and name in self._files:
            raise ReadOnlyGlossary(f"glossary {name!r} is a file of the server")
        stored = own or (self._store.find(None, name) if self._store else None)
        if stored is None:
            raise UnknownGlossary(f"there is no glossary {name!r}")
        return stored

    def terms(self, name: str, caller: Caller) -> Terms:
        """Terms of a glossary as it is now; the same object until it changes.

        Raises:
            GlossaryError: see ``snapshot``.
        """
        return self.snapshot(name, caller).terms

    def snapshot(self, name: str, caller: Caller) -> Snapshot:
        """A glossary as it is now.

        Raises:
            UnknownGlossary: there is none for this caller.
            GlossaryError: it is a file whose terms only the engine knows.
            StoreError: the store cannot be read.
        """
        file = self.file(name, caller)
        if isinstance(file, tuple):
            return Snapshot(stored=None, base=file)
        if file is not None:
            raise GlossaryError(f"the terms of glossary {name!r} are in an index and not listed")
        if self._cache is None:
            raise UnknownGlossary(f"there is no glossary {name!r}")
        return self._cache.snapshot(self.find(name, caller))

    def subscribe(
        self, snapshot: Snapshot, callback: Callable[[Change], None]
    ) -> Callable[[], None]:
        """Have every change since a snapshot told, on the event loop that is running now.

        Changes come in order and none is left out, though several may come as one. That a glossary
        is deleted is not told: whoever uses it keeps what it has.

        Returns:
            What ends it.
        """
        stored = snapshot.stored
        if stored is None:
            return lambda: None
        unsubscribe = self._feed.subscribe(stored, callback)
        with self._lock:
            known = self._known.get(stored.id, stored)
        if known.version > stored.version:  # it was changed before the subscription was there
            asyncio.get_running_loop().run_in_executor(None, self._catch_up, stored.id)
        return unsubscribe

    def replace(
        self,
        caller: Caller,
        name: str,
        terms: Iterable[Term],
        *,
        shared: bool = False,
        if_version: int | None = None,
    ) -> Change:
        """Store a glossary of the caller's, or with ``shared`` one for everybody.

        Raises:
            GlossaryError: see ``GlossaryStore.replace``.
            ReadOnlyGlossary: it is a file of the server.
        """
        owner = self.owner_to_change(caller, name, shared)
        work = partial(
            self.store.replace, owner, name, terms, author=caller.name, if_version=if_version
        )
        return self._write(work)

    def edit(
        self,
        caller: Caller,
        name: str,
        *,
        add: Sequence[Term] = (),
        remove: Iterable[str] = (),
        shared: bool = False,
        if_version: int | None = None,
    ) -> Change:
        """Change some terms of a glossary of the caller's.

        Raises:
            GlossaryError: see ``GlossaryStore.edit``.
            ReadOnlyGlossary: it is a file, or belongs to everybody and not to the caller.
        """
        owner = self.owner_to_change(caller, name, shared, existing=True)
        work = partial(self.store.edit, owner, name, add=add, remove=remove)
        return self._write(partial(work, author=caller.name, if_version=if_version))

    def restore(
        self,
        caller: Caller,
        name: str,
        version: int,
        *,
        shared: bool = False,
        if_version: int | None = None,
    ) -> Change:
        """Bring the terms of an old version back.

        Raises:
            GlossaryError: see ``GlossaryStore.restore``.
            ReadOnlyGlossary: it is a file, or belongs to everybody and not to the caller.
        """
        owner = self.owner_to_change(caller, name, shared, existing=True)
        work = partial(self.store.restore, owner, name, version)
        return self._write(partial(work, author=caller.name, if_version=if_version))

    def delete(
        self, caller: Caller, name: str, *, shared: bool = False, if_version: int | None = None
    ) -> None:
        """Delete a glossary of the caller's.

        Raises:
            GlossaryError: see ``GlossaryStore.delete``.
            ReadOnlyGlossary: it is a file, or belongs to everybody and not to the caller.
        """
        owner = self.owner_to_change(caller, name, shared, existing=True)
        with self._writing:
            self.store.delete(owner, name, if_version=if_version)
            self._learn(self.store.glossaries())

    def owner_to_change(
        self, caller: Caller, name: str, shared: bool, *, existing: bool = False
    ) -> str | None:
        """Whose glossary of this name the caller changes, which must be there if ``existing``.

        Raises:
            ReadOnlyGlossary: it is a file, or belongs to everybody and not to the caller.
        """
        owner = None if shared else owner_of(caller)
        if owner is None and name in self._files:
            raise ReadOnlyGlossary(f"glossary {name!r} is a file of the server")
        if existing and owner is not None and self.store.find(owner, name) is None:
            if name in self._files or self.store.find(None, name) is not None:
                raise ReadOnlyGlossary(f"glossary {name!r} belongs to everybody, not to this key")
        return owner

    async def follow(self) -> None:
        """Look for changes by other processes until cancelled."""
        while self._store is not None:
            await asyncio.sleep(FOLLOW_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Look for changes by other processes now."""
        try:
            with self._writing:
                for stored in self._learn(self.store.glossaries()):
                    self._publish(stored)
        except StoreError as error:
            if not self._unreachable:
                logger.error("glossaries cannot be followed: %s", error)
            self._unreachable = True
        else:
            self._unreachable = False

    def _write(self, work: Callable[[], Change]) -> Change:
        with self._writing:
            change = work()
            with self._lock:
                self._known[change.glossary.id] = change.glossary
            self._publish(change.glossary, change)
        return change

    def _learn(self, stored: list[StoredGlossary]) -> list[StoredGlossary]:
        """Take in what there is now; returns what is new or has changed."""
        with self._lock:
            before, self._known = self._known, {each.id: each for each in stored}
        for gone in before.keys() - self._known.keys():
            if self._cache is not None:
                self._cache.forget(gone)
        return [each for each in stored if before.get(each.id) != each]

    def _catch_up(self, glossary_id: int) -> None:
        with self._writing, self._logged():
            stored = self.store.by_id(glossary_id)
            if stored is not None:
                self._publish(stored)

    def _publish(self, stored: StoredGlossary, change: Change | None = None) -> None:
        with self._logged():  # what was written is written, whoever may not hear of it
            self._feed.publish(stored, change, self.store.changes)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        try:
            yield
        except GlossaryError as error:
            logger.error("sessions may have missed a change of their glossary: %s", error)
