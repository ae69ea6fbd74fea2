"""Terms of stored glossaries in memory, shared by all who use them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from a2p_engine.types import Term
from streaming.glossaries.records import StoredGlossary, UnknownGlossary
from streaming.glossaries.store import GlossaryStore

CACHED_TERMS = 3_000_000  # about a gigabyte
REBASED_SHARE = 0.1  # of a glossary that may have changed before it is read as a whole again

Terms = tuple[Term, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A glossary at one moment, as what it was and what has changed since.

    The index of a long glossary is dear, and a session that begins after an edit can share it: open
    it with ``base`` and edit it by ``added`` and ``removed``. Both ``base`` and ``terms`` are the
    same objects for everyone as long as they say the same.

    Attributes:
        stored: the glossary in its version; None for a file.
        base: terms of this or an earlier version.
        base_version: which one.
        added: terms that have come or changed since.
        removed: texts of terms that have gone since.
    """

    stored: StoredGlossary | None
    base: Terms
    base_version: int = 0
    added: Terms = ()
    removed: tuple[str, ...] = ()

    @cached_property
    def terms(self) -> Terms:
        """All terms."""
        if not self.added and not self.removed:
            return self.base
        gone = {*self.removed, *(term.text for term in self.added)}
        return (*(term for term in self.base if term.text not in gone), *self.added)


class SnapshotCache:
    """The latest snapshots, those least recently used dropped first; any thread may ask."""

    def __init__(self, store: GlossaryStore, max_terms: int = CACHED_TERMS) -> None:
        self._store = store
        self._max_terms = max_terms
        self._lock = threading.Lock()  # never held while something blocks
        self._snapshots: OrderedDict[int, Snapshot] = OrderedDict()
        self._reading: dict[int, threading.Lock] = {}

    def snapshot(self, stored: StoredGlossary) -> Snapshot:
        """The terms of a glossary in its current version.

        Raises:
            UnknownGlossary: it was deleted or has long been changed.
            StoreError: the store cannot be read.
        """
        with self._lock:
            reading = self._reading.setdefault(stored.id, threading.Lock())
        with reading:  # one thread reads, the others wait for what it has read
            with self._lock:
                cached = self._snapshots.get(stored.id)
            if cached is None or cached.stored is None or cached.stored.version != stored.version:
                cached = self._read(stored, cached)
            self._keep(stored.id, cached)
        return cached

    def forget(self, glossary_id: int) -> None:
        """Drop a glossary that was deleted."""
        with self._lock:
            self._snapshots.pop(glossary_id, None)
            self._reading.pop(glossary_id, None)

    def _keep(self, glossary_id: int, snapshot: Snapshot) -> None:
        with self._lock:
            self._snapshots[glossary_id] = snapshot
            self._snapshots.move_to_end(glossary_id)
            sizes = [len(each.base) for each in self._snapshots.values()]
            while len(self._snapshots) > 1 and sum(sizes) > self._max_terms:
                self._snapshots.popitem(last=False)
                sizes.pop(0)

    def _read(self, stored: StoredGlossary, earlier: Snapshot | None) -> Snapshot:
        """From what has changed since an earlier snapshot if that is little, else from all."""
        if earlier is not None and earlier.base_version < stored.version:
            try:
                change = self._store.changes(stored, earlier.base_version)
            except UnknownGlossary:  # the earlier version has been forgotten
                return self._read(stored, None)
            if len(change.add) + len(change.removed) <= REBASED_SHARE * len(earlier.base):
                return Snapshot(
                    stored=stored,
                    base=earlier.base,
                    base_version=earlier.base_version,
                    added=change.add,
                    removed=change.removed,
                )
        terms = tuple(self._store.terms(stored))
        return Snapshot(stored=stored, base=terms, base_version=stored.version)
