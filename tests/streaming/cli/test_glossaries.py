"""The glossary store from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2p_engine.types import Term
from streaming.cli import main
from streaming.glossaries.store import GlossaryStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the commands take for the store."""
    path = tmp_path / "store.sqlite"
    monkeypatch.setenv("A2P_GLOSSARY_STORE", str(path))
    return path


@pytest.fixture
def drugs(tmp_path: Path) -> Path:
    """A glossary with an entry that cannot be used."""
    path = tmp_path / "drugs.csv"
    path.write_text("term,weight\napixaban,2.0\n!!!,\nINR,\n")
    return path


def test_what_is_imported_is_exported(
    store: Path, drugs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store is made; what is left out is told; the export is read by others."""
    assert main(["glossary", "import", "drugs", str(drugs)]) == 0
    said = capsys.readouterr()
    assert said.out == "drugs: version 1, 2 terms, 2 added, 0 removed, 0 replaced\n"
    assert said.err.startswith("left out: ")
    assert said.err.endswith("'!!!', 'weight': ''}\": has no letter or digit\n")
    assert main(["glossary", "export", "drugs"]) == 0
    assert capsys.readouterr().out == (
        "term,sounds_like,target,weight,enabled\nINR,,,,\napixaban,,,2.0,\n"
    )
    out = store.with_name("out.json")
    assert main(["glossary", "export", "drugs", "-f", "json", "-o", str(out)]) == 0
    assert json.loads(out.read_text()) == ["INR", {"term": "apixaban", "weight": 2.0}]
    opened = GlossaryStore(store)
    stored = opened.find(None, "drugs")
    assert stored is not None
    assert list(opened.terms(stored)) == [Term(text="INR"), Term(text="apixaban", weight=2.0)]
    opened.close()


def test_versions_and_owners(store: Path, drugs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second import is a second version; a key's glossary is another one."""
    main(["glossary", "import", "drugs", str(drugs)])
    drugs.write_text("term\nwarfarin\n")
    main(["glossary", "import", "drugs", str(drugs)])
    main(["glossary", "import", "drugs", str(drugs), "--owner", "ann"])
    capsys.readouterr()
    main(["glossary", "list", "--json"])
    assert json.loads(capsys.readouterr().out) == [
        {"name": "drugs", "owner": None, "version": 2, "terms": 1},
        {"name": "drugs", "owner": "ann", "version": 1, "terms": 1},
    ]
    main(["glossary", "history", "drugs", "--json"])
    versions = json.loads(capsys.readouterr().out)
    assert [(v["version"], v["added"], v["removed"]) for v in versions] == [(2, 1, 2), (1, 2, 0)]
    main(["glossary", "export", "drugs", "--version", "1", "-f", "txt"])
    assert capsys.readouterr().out == "INR\napixaban\n"
    main(["glossary", "list"])
    main(["glossary", "history", "drugs", "--owner", "ann"])
    table = capsys.readouterr().out
    assert "ann" in table
    assert "import" in table


def test_languages_are_chosen(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A term bank is read in the language that is spoken."""
    bank = store.with_name("bank.json")
    bank.write_text('{"en": ["dog"], "de": ["Hund"]}')
    assert main(["glossary", "import", "animals", str(bank), "-l", "de", "--target", "en"]) == 0
    capsys.readouterr()
    main(["glossary", "export", "animals"])
    assert capsys.readouterr().out.splitlines()[1] == "Hund,,dog,,"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list"], "there is no glossary store"),
        (["export", "drugs"], "there is no glossary store"),
        (["import", "a/b", "DRUGS"], "a glossary cannot be named 'a/b'"),
        (["import", "drugs", "NOWHERE"], "cannot read glossary"),
        (["import", "drugs", "BAD"], "has no usable term"),
    ],
)
def test_mistakes_are_one_clear_line(
    store: Path,
    drugs: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """Nothing is made of a mistake but its explanation."""
    bad = store.with_name("bad.txt")
    bad.write_text("!!!\n")
    paths = {"DRUGS": str(drugs), "BAD": str(bad), "NOWHERE": str(store.with_name("nowhere.txt"))}
    assert main(["glossary", *(paths.get(word, word) for word in arguments)]) == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_what_is_not_there_is_named(
    store: Path, drugs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names and versions of a store that exists."""
    main(["glossary", "import", "drugs", str(drugs)])
    capsys.readouterr()
    assert main(["glossary", "export", "other"]) == 1
    assert "there is no shared glossary 'other'" in capsys.readouterr().err
    assert main(["glossary", "history", "drugs", "--owner", "ann"]) == 1
    assert "there is no glossary of 'ann' 'drugs'" in capsys.readouterr().err
    assert main(["glossary", "export", "drugs", "--version", "7"]) == 1
    assert "no version 7" in capsys.readouterr().err
    assert main(["glossary", "export", "drugs", "-o", str(store.parent / "no" / "x.csv")]) == 1
    assert "cannot write" in capsys.readouterr().err
