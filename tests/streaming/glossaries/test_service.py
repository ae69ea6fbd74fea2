"""Whose glossary a name means, terms in memory, and changes that reach who uses them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term
from streaming.glossaries.cache import SnapshotCache
from streaming.glossaries.records import Change, ReadOnlyGlossary, StoredGlossary, UnknownGlossary
from streaming.glossaries.service import GlossaryService
from streaming.glossaries.store import GlossaryStore, Limits
from streaming.security.auth import ANONYMOUS, Principal

A, B, C = Term(text="apixaban"), Term(text="bisoprolol"), Term(text="captopril")
ANN, BEA = Principal(name="ann", key_id="k1"), Principal(name="bea", key_id="k2")

FILE = "glossaries.sqlite"


@dataclass
class Mapped:
    """A glossary that only the engine can read."""

    size: int

    def __len__(self) -> int:
        return self.size


@pytest.fixture
def store(tmp_path: Path) -> Iterator[GlossaryStore]:
    """An empty store."""
    made = GlossaryStore(tmp_path / FILE)
    yield made
    made.close()


@pytest.fixture
def service(store: GlossaryStore) -> GlossaryService:
    """A service with two files beside the store."""
    return GlossaryService(store, {"ward": (A, B), "huge": Mapped(10**6)})


def words(service: GlossaryService, name: str, caller: Principal) -> list[str]:
    """What a name means to a caller."""
    return sorted(term.text for term in service.terms(name, caller))


def test_files_are_for_everybody_to_read(service: GlossaryService) -> None:
    """They can be used as ever and not be changed; what only the engine knows is not listed."""
    assert service.terms("ward", ANN) is service.terms("ward", ANONYMOUS) == (A, B)
    assert service.sizes(BEA) == {"ward": 2, "huge": 10**6}
    assert service.file("huge", ANN) == Mapped(10**6)
    with pytest.raises(GlossaryError, match="in an index and not listed"):
        service.terms("huge", ANN)
    with pytest.raises(ReadOnlyGlossary, match="'ward' is a file"):
        service.replace(ANONYMOUS, "ward", [C])
    with pytest.raises(ReadOnlyGlossary, match="belongs to everybody"):
        service.edit(ANN, "ward", add=[C])
    with pytest.raises(ReadOnlyGlossary, match="'ward' is a file"):
        service.find("ward", ANN)


def test_a_server_without_a_store(tmp_path: Path) -> None:
    """Files work as ever; changes are refused with the reason."""
    service = GlossaryService(None, {"ward": (A,)})
    assert service.names(ANONYMOUS) == ("ward",)
    with pytest.raises(UnknownGlossary, match="there is no glossary 'x'"):
        service.terms("x", ANONYMOUS)
    with pytest.raises(ReadOnlyGlossary, match="stores no glossaries"):
        service.replace(ANONYMOUS, "x", [A])


def test_keys_see_their_own_and_what_belongs_to_everybody(service: GlossaryService) -> None:
    """Nobody can tell whether another key has a glossary of some name."""
    service.replace(ANN, "drugs", [A])
    service.replace(ANONYMOUS, "common", [B])
    assert service.names(ANN) == ("common", "ward", "huge", "drugs")
    assert service.names(BEA) == ("common", "ward", "huge")
    assert service.names(ANONYMOUS) == ("common", "ward", "huge")
    for work in (
        lambda: service.terms("drugs", BEA),
        lambda: service.edit(BEA, "drugs", add=[C]),
        lambda: service.delete(BEA, "drugs"),
        lambda: service.terms("drugs", ANONYMOUS),
        lambda: service.terms("never", BEA),
    ):
        with pytest.raises(UnknownGlossary, match=r"there is no glossary '(drugs|never)'"):
            work()
    assert words(service, "common", BEA) == ["bisoprolol"]


def test_an_own_glossary_hides_one_of_everybody(service: GlossaryService) -> None:
    """It hides files too, and when it is deleted the other is back."""
    service.replace(ANONYMOUS, "common", [B])
    with pytest.raises(ReadOnlyGlossary, match="'common' belongs to everybody"):
        service.edit(ANN, "common", add=[C])
    service.replace(ANN, "common", [A])
    service.replace(ANN, "ward", [C])
    service.edit(ANN, "common", add=[C])
    assert words(service, "common", ANN) == ["apixaban", "captopril"]
    assert words(service, "ward", ANN) == ["captopril"]
    assert [(g.name, g.owner) for g in service.visible(ANN)] == [("common", "ann"), ("ward", "ann")]
    assert [(g.name, g.owner) for g in service.visible(BEA)] == [("common", None)]
    service.delete(ANN, "common")
    assert words(service, "common", ANN) == ["bisoprolol"]


def test_shared_glossaries_can_be_kept_by_a_key(service: GlossaryService) -> None:
    """Who may is for the caller of the service to decide; the author is the key."""
    service.replace(ANN, "common", [A], shared=True)
    change = service.edit(ANN, "common", add=[B], shared=True)
    assert words(service, "common", BEA) == ["apixaban", "bisoprolol"]
    assert [v.author for v in service.store.history(change.glossary)] == ["ann", "ann"]
    service.delete(ANN, "common", shared=True)
    assert "common" not in service.names(BEA)


def test_terms_are_the_same_object_until_they_change(service: GlossaryService) -> None:
    """So that the engine recognises what sessions share."""
    terms = [Term(text=f"term {number}") for number in range(100)]
    service.replace(ANONYMOUS, "drugs", terms)
    before = service.snapshot("drugs", ANONYMOUS)
    assert service.terms("drugs", ANN) is before.terms is before.base
    service.edit(ANONYMOUS, "drugs", add=[A, Term(text="term 7", weight=2.0)], remove=["term 9"])
    after = service.snapshot("drugs", ANONYMOUS)
    assert after.terms is service.terms("drugs", BEA) is not before.terms
    assert after.base is before.base  # whose index can be shared
    assert ({t.text for t in after.added}, after.removed) == ({"apixaban", "term 7"}, ("term 9",))
    assert len(after.terms) == 100
    assert {t.text: t.weight for t in after.terms}["term 7"] == 2.0


def test_a_glossary_that_changed_much_is_read_again(service: GlossaryService) -> None:
    """A long list of differences would be no gain."""
    service.replace(ANONYMOUS, "drugs", [A, B])
    service.terms("drugs", ANONYMOUS)
    service.edit(ANONYMOUS, "drugs", add=[C])
    snapshot = service.snapshot("drugs", ANONYMOUS)
    assert (snapshot.base, snapshot.base_version, snapshot.added) == ((A, B, C), 2, ())


def test_a_base_that_was_forgotten_is_read_again(tmp_path: Path) -> None:
    """The store keeps a bounded number of versions."""
    store = GlossaryStore(tmp_path / "s.sqlite", Limits(versions=2))
    service = GlossaryService(store)
    service.replace(ANONYMOUS, "drugs", [Term(text=f"term {number}") for number in range(100)])
    service.terms("drugs", ANONYMOUS)
    for number in range(4):
        service.edit(ANONYMOUS, "drugs", remove=[f"term {number}"])
    snapshot = service.snapshot("drugs", ANONYMOUS)
    assert (len(snapshot.terms), snapshot.base_version) == (96, 5)
    store.close()


def test_memory_is_bounded(store: GlossaryStore) -> None:
    """What was not used for longest is read again when it is wanted."""
    cache = SnapshotCache(store, max_terms=5)
    stored = [store.replace(None, name, [A, B], author="x").glossary for name in "abc"]
    first, second = cache.snapshot(stored[0]), cache.snapshot(stored[1])
    assert cache.snapshot(stored[0]) is first
    cache.snapshot(stored[2])
    assert cache.snapshot(stored[0]) is first
    assert cache.snapshot(stored[1]) is not second


def test_threads_that_come_together_read_once(
    store: GlossaryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred sessions that begin at once do not read a long glossary a hundred times."""
    stored = store.replace(None, "drugs", [A, B], author="x").glossary
    reads = []

    def slowly(asked: StoredGlossary) -> Iterator[Term]:
        reads.append(asked)
        time.sleep(0.05)
        yield from (A, B)

    monkeypatch.setattr(store, "terms", slowly)
    cache, found = SnapshotCache(store), []
    threads = [
        threading.Thread(target=lambda: found.append(cache.snapshot(stored))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert len({id(snapshot) for snapshot in found}) == 1


class Listener:
    """Gathers changes."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._heard = asyncio.Event()

    def __call__(self, change: Change) -> None:
        """Take a change; raises outside of an event loop."""
        assert asyncio.get_running_loop() is not None
        self.changes.append(change)
        self._heard.set()

    async def until(self, version: int) -> None:
        """Wait for a version."""
        while not self.changes or self.changes[-1].glossary.version < version:
            self._heard.clear()
            await asyncio.wait_for(self._heard.wait(), 5)


async def test_a_change_is_told_at_once(service: GlossaryService) -> None:
    """From whatever thread it comes, on the event loop, with what an engine needs."""
    service.replace(ANN, "drugs", [A, B])
    listener = Listener()
    snapshot = await asyncio.to_thread(service.snapshot, "drugs", ANN)
    service.subscribe(snapshot, listener)
    began = time.perf_counter()
    heavier = Term(text="apixaban", weight=3.0)
    await asyncio.to_thread(service.edit, ANN, "drugs", add=[heavier, C], remove=["bisoprolol"])
    await listener.until(2)
    assert time.perf_counter() - began < 1
    (change,) = listener.changes
    assert (change.glossary.name, change.add, change.removed) == (
        "drugs",
        (C, heavier),
        ("bisoprolol",),
    )


async def test_who_has_unsubscribed_hears_nothing(service: GlossaryService) -> None:
    """Not even what was on its way; files never change."""
    service.replace(ANN, "drugs", [A])
    listener, other = Listener(), Listener()
    snapshot = service.snapshot("drugs", ANN)
    unsubscribe = service.subscribe(snapshot, listener)
    service.subscribe(snapshot, other)
    service.edit(ANN, "drugs", add=[B])
    unsubscribe()
    unsubscribe()
    await other.until(2)
    assert listener.changes == []
    service.subscribe(service.snapshot("ward", ANN), listener)()


async def test_nothing_is_missed_between_reading_and_subscribing(service: GlossaryService) -> None:
    """What changed in between comes as one change."""
    service.replace(ANN, "drugs", [A])
    snapshot = service.snapshot("drugs", ANN)
    service.edit(ANN, "drugs", add=[B])
    service.edit(ANN, "drugs", add=[C], remove=["apixaban"])
    listener = Listener()
    service.subscribe(snapshot, listener)
    await listener.until(3)
    (change,) = listener.changes
    assert (change.since, {t.text for t in change.add}) == (1, {"bisoprolol", "captopril"})
    assert change.removed == ("apixaban",)


async def test_changes_of_many_threads_come_in_order(service: GlossaryService) -> None:
    """Applied one after the other they make the glossary, for early and late subscribers."""
    service.replace(ANN, "drugs", [])
    early, late = Listener(), Listener()
    service.subscribe(service.snapshot("drugs", ANN), early)

    def write(number: int) -> None:
        for count in range(10):
            service.edit(ANN, "drugs", add=[Term(text=f"{number} {count}")], remove=["0 0"])

    work = [asyncio.create_task(asyncio.to_thread(write, number)) for number in range(4)]
    await early.until(10)
    snapshot = await asyncio.to_thread(service.snapshot, "drugs", ANN)
    service.subscribe(snapshot, late)
    await asyncio.gather(*work)
    stored = service.find("drugs", ANN)
    for listener, now in ((early, set()), (late, {term.text for term in snapshot.terms})):
        await listener.until(stored.version)
        for change in listener.changes:
            now -= set(change.removed)
            now |= {term.text for term in change.add}
        assert now == {term.text for term in service.terms("drugs", ANN)}
        versions = [change.glossary.version for change in listener.changes]
        assert versions == sorted(set(versions))


async def test_changes_of_other_processes_are_seen(
    service: GlossaryService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import on the command line reaches sessions of a running server."""
    monkeypatch.setattr("streaming.glossaries.service.FOLLOW_S", 0.02)
    service.replace(ANONYMOUS, "drugs", [A])
    listener = Listener()
    service.subscribe(service.snapshot("drugs", ANN), listener)
    following = asyncio.create_task(service.follow())
    other = GlossaryStore(tmp_path / FILE)
    other.edit(None, "drugs", add=[B], author="command line")
    other.replace(None, "new", [A], author="command line")
    await listener.until(2)
    assert listener.changes[0].add == (B,)
    assert "new" in service.names(ANN)
    # A change of the server's own that finds one of others before it.
    other.edit(None, "drugs", add=[C], author="command line")
    await asyncio.to_thread(service.edit, ANONYMOUS, "drugs", remove=["apixaban"])
    await listener.until(4)
    assert {t.text for c in listener.changes[1:] for t in c.add} == {"captopril"}
    assert {text for c in listener.changes[1:] for text in c.removed} == {"apixaban"}
    other.delete(None, "new")
    following.cancel()
    await asyncio.to_thread(service.refresh)
    assert "new" not in service.names(ANN)
    other.close()


def test_a_store_that_fails_is_told_once_and_followed_on(
    service: GlossaryService,
    store: GlossaryStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log is not flooded, and when the trouble is over changes are seen again."""
    service.replace(ANONYMOUS, "drugs", [A])
    store.close()  # what it opens from now on it does not keep open
    (tmp_path / FILE).rename(tmp_path / "away")
    (tmp_path / FILE).write_bytes(b"rubbish" * 1000)
    with caplog.at_level(logging.ERROR):
        service.refresh()
        service.refresh()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "glossaries cannot be followed"
    ]
    (tmp_path / "away").rename(tmp_path / FILE)
    service.refresh()
    assert words(service, "drugs", ANN) == ["apixaban"]


async def test_a_deleted_glossary_stays_with_who_uses_it(service: GlossaryService) -> None:
    """Running sessions are not disturbed, and a new one of the name is another glossary."""
    service.replace(ANN, "drugs", [A])
    listener = Listener()
    snapshot = service.snapshot("drugs", ANN)
    service.subscribe(snapshot, listener)
    service.delete(ANN, "drugs")
    service.replace(ANN, "drugs", [B])
    service.edit(ANN, "drugs", add=[C])
    await asyncio.sleep(0.05)
    assert listener.changes == []
    assert snapshot.terms == (A,)
    assert words(service, "drugs", ANN) == ["bisoprolol", "captopril"]


def test_a_subscriber_whose_loop_has_ended_does_no_harm(service: GlossaryService) -> None:
    """A server that is shutting down does not make others' edits fail."""
    service.replace(ANN, "drugs", [A])

    async def subscribe() -> None:
        service.subscribe(service.snapshot("drugs", ANN), Listener())

    asyncio.run(subscribe())
    assert service.edit(ANN, "drugs", add=[B]).glossary.version == 2
