"""The glossary store: versions, writers side by side, and what things that go wrong leave."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.errors import GlossaryError
from a2p_engine.types import Term
from streaming.glossaries.records import (
    StoreBusy,
    StoreDamaged,
    StoreError,
    StoreFull,
    TooMuch,
    UnknownGlossary,
    VersionConflict,
)
from streaming.glossaries.store import GlossaryStore, Limits, checked_name

A, B, C = Term(text="apixaban"), Term(text="bisoprolol"), Term(text="captopril")
RICH = Term(
    text="Éliquis", sounds_like=("ella quiss", "a|b"), target="阿哌沙班", weight=2.5, enabled=False
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "glossaries.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[GlossaryStore]:
    """An empty store."""
    made = GlossaryStore(path)
    yield made
    made.close()


def texts(store: GlossaryStore, name: str = "drugs", owner: str | None = None) -> list[str]:
    """What a glossary says now."""
    stored = store.find(owner, name)
    assert stored is not None
    return [term.text for term in store.terms(stored)]


def test_a_glossary_outlives_the_program(path: Path) -> None:
    """Another store on the file has the terms with all their fields."""
    first = GlossaryStore(path, clock=lambda: 1000.0)
    first.replace("ward", "drugs", [B, RICH, A], author="ward")
    first.close()
    second = GlossaryStore(path, create=False)
    stored = second.find("ward", "drugs")
    assert stored is not None
    assert (stored.version, stored.terms, stored.created_s) == (1, 3, 1000.0)
    assert list(second.terms(stored)) == [A, B, RICH]
    second.close()


def test_changes_tell_what_they_did(store: GlossaryStore) -> None:
    """Each kind of change is counted, and an edit that changes nothing makes no version."""
    assert store.replace(None, "drugs", [A, B], author="x").added == (A, B)
    heavier = Term(text="apixaban", weight=2.0)
    change = store.edit(None, "drugs", add=[heavier, C], remove=["bisoprolol", "zinc"], author="x")
    assert (change.added, change.replaced) == ((C,), (heavier,))
    assert (change.removed, change.missing) == (("bisoprolol",), ("zinc",))
    assert (change.since, change.glossary.version, change.glossary.terms) == (1, 2, 2)
    again = store.edit(None, "drugs", add=[heavier], remove=["zinc"], author="x")
    assert (again.since, again.glossary.version, again.missing) == (2, 2, ("zinc",))
    assert [version.version for version in store.history(again.glossary)] == [2, 1]


def test_a_new_upload_changes_only_what_differs(store: GlossaryStore) -> None:
    """What stays is not written again."""
    store.replace(None, "drugs", [A, B], author="x")
    change = store.replace(None, "drugs", [B, C], author="x")
    assert (change.added, change.removed, change.replaced) == ((C,), ("apixaban",), ())
    same = store.replace(None, "drugs", [C, B], author="x")
    assert same.glossary.version == 2


def test_an_empty_glossary_can_be_filled(store: GlossaryStore) -> None:
    """The first version may be empty."""
    assert store.replace(None, "drugs", [], author="x").glossary.version == 1
    store.edit(None, "drugs", add=[A], author="x")
    assert texts(store) == ["apixaban"]


def test_removed_texts_are_normalised(store: GlossaryStore) -> None:
    """A term is found by any way of writing it; one that is added too stays."""
    store.replace(None, "drugs", [Term(text="café au lait"), A], author="x")
    change = store.edit(
        None, "drugs", add=[A], remove=["cafe\u0301  au lait", "apixaban"], author="x"
    )
    assert change.removed == ("café au lait",)
    assert texts(store) == ["apixaban"]
    assert store.edit(None, "drugs", add=[C], remove=["captopril"], author="x").missing == ()


def test_history_and_old_versions(path: Path) -> None:
    """Every version can be read and brought back; history says who did what, and when."""
    times = iter(range(100, 200))
    store = GlossaryStore(path, clock=lambda: next(times))
    store.replace(None, "drugs", [A, B], author="ann")
    store.edit(None, "drugs", remove=["apixaban"], author="bea")
    change = store.restore(None, "drugs", 1, author="cee")
    assert texts(store) == ["apixaban", "bisoprolol"]
    listed = store.history(change.glossary)
    assert [(v.version, v.author, v.action, v.terms) for v in listed] == [
        (3, "cee", "restore", 2),
        (2, "bea", "edit", 1),
        (1, "ann", "import", 2),
    ]
    assert (listed[1].removed, listed[0].added) == (1, 1)
    assert [v.made_s for v in listed] == sorted((v.made_s for v in listed), reverse=True)
    second = store.at(change.glossary, 2)
    assert [term.text for term in store.terms(second)] == ["bisoprolol"]
    with pytest.raises(UnknownGlossary, match="no version 4"):
        store.at(change.glossary, 4)
    store.close()


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "edit", "restore"]),
        st.dictionaries(st.sampled_from("abcde"), st.sampled_from([1.0, 2.0])),
        st.sets(st.sampled_from("abcde")),
    ),
    max_size=12,
)


@given(EDITS)
def test_every_version_stays_readable_and_differences_add_up(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, dict[str, float], set[str]]]
) -> None:
    """Against a model of dictionaries: all versions, their sizes, and changes between any two."""
    store = GlossaryStore(tmp_path_factory.mktemp("store") / "s.sqlite")
    stored = store.replace(None, "g", [], author="x").glossary
    versions: dict[int, dict[str, float]] = {1: {}}
    for action, add, remove in edits:
        terms = [Term(text=text, weight=weight) for text, weight in add.items()]
        now = dict(versions[max(versions)])
        if action == "replace":
            stored, now = store.replace(None, "g", terms, author="x").glossary, add
        elif action == "edit":
            stored = store.edit(None, "g", add=terms, remove=remove, author="x").glossary
            now = {text: now[text] for text in now if text not in remove} | add
        else:
            old = 1 + len(add) % max(versions)
            stored, now = store.restore(None, "g", old, author="x").glossary, versions[old]
        versions[stored.version] = now
    assert set(versions) == set(range(1, stored.version + 1))
    for number, expected in versions.items():
        then = store.at(stored, number)
        assert {term.text: term.weight for term in store.terms(then)} == expected
        assert then.terms == len(expected)
        for since in range(1, number):
            change = store.changes(then, since)
            patched = {t: w for t, w in versions[since].items() if t not in change.removed}
            assert patched | {term.text: term.weight for term in change.add} == expected
    store.check()
    store.close()


def test_old_versions_are_forgotten(path: Path) -> None:
    """The number of versions is bounded, and so are the rows; what is kept can all be read."""
    store = GlossaryStore(path, Limits(versions=3))
    for number in range(10):
        store.replace(None, "drugs", [Term(text=f"t{number}"), A], author="x")
    stored = store.find(None, "drugs")
    assert stored is not None
    assert [version.version for version in store.history(stored)] == [10, 9, 8]
    assert [[t.text for t in store.terms(store.at(stored, v))] for v in (8, 10)] == [
        ["apixaban", "t7"],
        ["apixaban", "t9"],
    ]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM entry").fetchone() == (4,)
    db.close()
    with pytest.raises(UnknownGlossary):
        store.changes(stored, 7)
    store.close()


def test_owners_do_not_see_one_another(store: GlossaryStore) -> None:
    """The same name is another glossary for another owner."""
    store.replace("ann", "drugs", [A], author="ann")
    store.replace("bea", "drugs", [B], author="bea")
    store.replace(None, "drugs", [C], author="x")
    assert texts(store, owner="ann") == ["apixaban"]
    assert texts(store, owner="bea") == ["bisoprolol"]
    assert texts(store) == ["captopril"]
    assert [g.owner for g in store.glossaries("ann", None)] == [None, "ann"]
    assert len(store.glossaries()) == 3
    assert store.find("cee", "drugs") is None


def test_deleting_takes_everything_and_numbers_are_not_used_again(store: GlossaryStore) -> None:
    """A new glossary of the old name is another one."""
    old = store.replace(None, "drugs", [A], author="x").glossary
    store.delete(None, "drugs")
    assert store.by_id(old.id) is None
    with pytest.raises(UnknownGlossary):
        store.page(old, limit=10)
    assert store.replace(None, "drugs", [B], author="x").glossary.id != old.id
    with pytest.raises(UnknownGlossary, match="there is no glossary 'other'"):
        store.delete(None, "other")
    store.check()


def test_conflicting_changes_are_refused(store: GlossaryStore) -> None:
    """The second of two editors who have read the same version is told, and nothing is changed."""
    store.replace(None, "drugs", [A], author="x", if_version=0)
    store.edit(None, "drugs", add=[B], author="x", if_version=1)
    for attempt in (
        lambda: store.edit(None, "drugs", add=[C], author="x", if_version=1),
        lambda: store.replace(None, "drugs", [C], author="x", if_version=0),
        lambda: store.restore(None, "drugs", 1, author="x", if_version=1),
        lambda: store.delete(None, "drugs", if_version=1),
    ):
        with pytest.raises(VersionConflict, match="in version 2, not") as caught:
            attempt()
        assert caught.value.version == 2
    assert texts(store) == ["apixaban", "bisoprolol"]
    with pytest.raises(VersionConflict, match="no such glossary"):
        store.replace(None, "new", [C], author="x", if_version=3)


def test_writers_in_threads_and_processes_lose_nothing(store: GlossaryStore, path: Path) -> None:
    """Two stores on one file, four threads: all edits are there, each with a version of its own."""
    other = GlossaryStore(path)
    store.replace(None, "drugs", [], author="x")

    def write(number: int) -> None:
        for count in range(10):
            term = Term(text=f"{number} {count}")
            (store, other)[number % 2].edit(None, "drugs", add=[term], author=str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts(store)) == 40
    stored = store.find(None, "drugs")
    assert stored is not None
    assert stored.version == 41
    other.close()


def test_a_reader_keeps_its_version_while_others_write(store: GlossaryStore) -> None:
    """Pages fit together although the glossary changes between them."""
    stored = store.replace(None, "drugs", [A, B, C], author="x").glossary
    first = store.page(stored, limit=2)
    store.replace(None, "drugs", [Term(text="aaa"), Term(text="zzz")], author="x")
    assert first + store.page(stored, after=first[-1].text, limit=2) == [A, B, C]


def test_a_writer_that_waits_too_long_is_told(store: GlossaryStore, path: Path) -> None:
    """A writer that never ends does not hang others for ever."""
    hasty = GlossaryStore(path, busy_s=0.05)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="try again"):
        hasty.replace(None, "drugs", [A], author="x")
    assert hasty.glossaries() == []  # readers are not in its way
    blocker.execute("ROLLBACK")
    blocker.close()
    hasty.replace(None, "drugs", [A], author="x")
    hasty.close()


def test_a_full_store_says_so_and_stays_usable(path: Path) -> None:
    """The bound on the file's size is kept; what was there is there, and small changes go on."""
    store = GlossaryStore(path, Limits(bytes=200_000))
    store.replace(None, "drugs", [A], author="x")
    flood = [Term(text=f"term number {number}") for number in range(20_000)]
    for _ in range(2):
        with pytest.raises(StoreFull, match="full; nothing was changed"):
            store.replace(None, "drugs", flood, author="x")
    assert texts(store) == ["apixaban"]
    store.edit(None, "drugs", add=[B], author="x")
    assert texts(store) == ["apixaban", "bisoprolol"]
    assert path.stat().st_size <= 200_000
    store.check()
    store.close()


def run(code: str, path: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Another process that works on the store."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        text=True,
        capture_output=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


FILL = """
    import sys
    from pathlib import Path
    from a2p_engine.types import Term
    from streaming.glossaries.records import StoreError
    from streaming.glossaries.store import GlossaryStore
    store = GlossaryStore(Path(sys.argv[1]))
    terms = [Term(text=f"term number {n}") for n in range(50_000)]
    try:
        store.replace(None, "drugs", terms, author="x")
    except StoreError as error:
        print(type(error).__name__, error)
    print([term.text for term in store.terms(store.find(None, "drugs"))][:3])
"""


def test_a_disk_without_room_is_told_and_does_no_harm(store: GlossaryStore, path: Path) -> None:
    """The operating system refuses to let files grow: an error, and the old version stays."""
    store.replace(None, "drugs", [A], author="x")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = run(FILL, path, preexec_fn=no_room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        ("StoreError the glossary store cannot be used: disk I/O error", "StoreFull")
    )
    assert done.stdout.endswith("['apixaban']\n")
    store.check()
    store.edit(None, "drugs", add=[B], author="x")
    assert texts(store) == ["apixaban", "bisoprolol"]


WRITE_FOR_EVER = """
    import sys
    from pathlib import Path
    from a2p_engine.types import Term
    from streaming.glossaries.store import GlossaryStore
    store = GlossaryStore(Path(sys.argv[1]))
    for round in range(1_000_000):
        terms = [Term(text=f"{round} {n}") for n in range(5_000)]
        change = store.replace(None, "drugs", terms, author="x")
        print(change.glossary.version, flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.03, 0.11])
def test_a_writer_that_is_killed_leaves_whole_versions(
    store: GlossaryStore, path: Path, delay_s: float
) -> None:
    """SIGKILL in the middle of writing: every change it has told of is there, and none in part."""
    command = [sys.executable, "-c", textwrap.dedent(WRITE_FOR_EVER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(3)]
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout]
    assert writer.returncode == -signal.SIGKILL
    store.check()
    stored = store.find(None, "drugs")
    assert stored is not None
    assert stored.version >= told[-1]
    words = texts(store)
    assert (len(words), len({word.split()[0] for word in words})) == (5_000, 1)
    store.edit(None, "drugs", add=[A], author="x")
    assert "apixaban" in texts(store)


def test_a_damaged_file_is_named(path: Path) -> None:
    """Overwritten pages are an error of the store, at the latest when they are read."""
    store = GlossaryStore(path)
    store.replace(None, "drugs", [Term(text=f"term {n}") for n in range(5000)], author="x")
    stored = store.find(None, "drugs")
    store.close()
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 20 * 4096)
    damaged = GlossaryStore(path)
    assert stored is not None
    with pytest.raises(StoreDamaged, match="damaged"):
        damaged.check()
    with pytest.raises(StoreDamaged, match="damaged"):
        list(damaged.terms(stored))
    damaged.close()


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    """Neither another program's database nor any other file is taken for a store."""
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE x (y)")
    db.close()
    with pytest.raises(StoreDamaged, match=r"foreign\.sqlite: it is a database of another program"):
        GlossaryStore(foreign)
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all, " * 100)
    with pytest.raises(StoreDamaged, match=r"notes\.txt: .*damaged or none"):
        GlossaryStore(text)
    assert text.read_text().startswith("not a database")
    with pytest.raises(StoreError, match="No such file or directory"):
        GlossaryStore(tmp_path / "nowhere" / "s.sqlite")
    with pytest.raises(StoreError, match="there is no glossary store"):
        GlossaryStore(tmp_path / "s.sqlite", create=False)


def test_a_store_of_a_later_program_is_refused(path: Path) -> None:
    """Its tables may mean something else."""
    GlossaryStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="it is of schema 99; this program knows 1"):
        GlossaryStore(path)


def test_only_its_user_may_read_the_file(store: GlossaryStore, path: Path) -> None:
    """Glossaries can be confidential."""
    store.replace(None, "drugs", [A], author="x")
    modes = {file.name: file.stat().st_mode & 0o077 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0}
    assert path.name in modes


def test_limits_are_kept(path: Path) -> None:
    """Neither a glossary nor an owner can grow without end; nothing is changed by the attempt."""
    store = GlossaryStore(path, Limits(terms=2, glossaries=1))
    store.replace("ann", "drugs", [A, B], author="x")
    with pytest.raises(TooMuch, match="3 terms; at most 2"):
        store.edit("ann", "drugs", add=[C], author="x")
    store.edit("ann", "drugs", add=[C], remove=["apixaban"], author="x")
    with pytest.raises(TooMuch, match="there are 1 glossaries already"):
        store.replace("ann", "more", [A], author="x")
    store.replace("bea", "more", [A], author="x")
    assert texts(store, owner="ann") == ["bisoprolol", "captopril"]
    store.close()


@pytest.mark.parametrize("name", ["drugs", "Ward 3", "a", "über-liste_2.1", "字典", "x" * 64])
def test_names_that_are_accepted(name: str) -> None:
    """People name glossaries in their own language."""
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", " x", "x ", "a/b", "..", "a\nb", "x" * 65, "-x", "a\x00"])
def test_names_that_are_not(store: GlossaryStore, name: str) -> None:
    """Names stand in addresses and file names."""
    with pytest.raises(GlossaryError, match="a glossary cannot be named"):
        store.replace(None, name, [A], author="x")


def test_names_are_normalised(store: GlossaryStore) -> None:
    """Two ways to write é are one name."""
    store.replace(None, "cafe\u0301", [A], author="x")
    assert texts(store, "caf\u00e9") == texts(store, "cafe\u0301") == ["apixaban"]


def test_a_closed_store_keeps_no_file_open(path: Path) -> None:
    """Also when a thread was reading at that moment."""
    store = GlossaryStore(path)
    stored = store.replace(None, "drugs", [A, B], author="x").glossary
    reading = store.terms(stored)
    next(reading)
    store.close()
    assert [term.text for term in reading] == ["bisoprolol"]
    opened = {
        str(Path(f"/proc/self/fd/{fd.name}").resolve()) for fd in Path("/proc/self/fd").iterdir()
    }
    assert not any(str(path) in name for name in opened)


def test_a_million_terms(store: GlossaryStore) -> None:
    """A million are imported in one go, and an edit of them costs milliseconds."""
    terms = [Term(text=f"term {number:x}") for number in range(1_000_000)]
    began = time.perf_counter()
    assert store.replace(None, "drugs", terms, author="x").glossary.terms == 1_000_000
    imported_s = time.perf_counter() - began
    costs_s = []
    for number in range(11):
        began = time.perf_counter()
        store.edit(
            None, "drugs", add=[Term(text=f"new {number}")], remove=[f"term {number:x}"], author="x"
        )
        costs_s.append(time.perf_counter() - began)
    assert imported_s < 60
    assert sorted(costs_s)[5] < 0.1
