"""Reading glossaries: what is taken, what is left out and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2p_engine.errors import GlossaryError
from a2p_engine.glossary import load, parse_entries


def test_text_file_with_every_oddity(tmp_path: Path) -> None:
    """Comments and blanks vanish; repeats, emoji and over-long lines are rejected with reasons."""
    path = tmp_path / "g.txt"
    path.write_text(f"# drugs\n\napixaban\n  apixaban \n💊\n{'x' * 300}\n\tsodium   chloride\n")
    parsed = load(path)
    assert [term.text for term in parsed.terms] == ["apixaban", "sodium chloride"]
    reasons = [reason for _, reason in parsed.rejected]
    assert reasons[0] == "repeated"
    assert reasons[1] == "has no letter or digit"
    assert reasons[2].startswith("300 characters long; at most 100")


def test_composed_and_decomposed_letters_are_the_same_term() -> None:
    """NFC makes one term of two ways to write é."""
    parsed = parse_entries(["café", "cafe\u0301"])
    assert [term.text for term in parsed.terms] == ["café"]
    assert parsed.rejected == [("café", "repeated")]


def test_control_characters_are_dropped() -> None:
    """A zero-width space or a byte order mark inside a term does not make it another term."""
    parsed = parse_entries(["\ufeffapi\u200bxaban"])
    assert parsed.terms[0].text == "apixaban"


def test_latin1_bytes_are_read_and_remarked_on(tmp_path: Path) -> None:
    """A file that is not UTF-8 is read as Windows-1252 and says so."""
    path = tmp_path / "g.txt"
    path.write_bytes("Gödel\n".encode("latin-1"))
    parsed = load(path)
    assert parsed.terms[0].text == "Gödel"
    assert parsed.notes == ["not UTF-8, read as Windows-1252"]


def test_table_and_json_carry_the_fields(tmp_path: Path) -> None:
    """CSV and JSON give the same terms."""
    table = tmp_path / "g.csv"
    table.write_text(
        "term,sounds_like,target,weight,enabled\nEliquis,ella quiss|eli quis,,2,False\nINR,,,,\n"
    )
    listed = tmp_path / "g.json"
    entry = {"term": "Eliquis", "sounds_like": ["ella quiss", "eli quis"], "weight": 2}
    listed.write_text(json.dumps([entry | {"enabled": False}, "INR"]))
    assert load(table).terms == load(listed).terms
    assert load(table).terms[0].sounds_like == ("ella quiss", "eli quis")
    assert [term.enabled for term in load(table).terms] == [False, True]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"term": "x", "wieght": 1}, "unknown key 'wieght'"),
        ({"weight": 1}, "'term' is missing"),
        ({"term": "x", "weight": -1}, "'weight' must be above 0"),
        ({"term": "x", "sounds_like": 3}, "'sounds_like' must be"),
        ({"term": "x", "enabled": "maybe"}, "'enabled' must be true or false"),
        (7, "a string or an object"),
    ],
)
def test_bad_entries_are_named(entry: object, reason: str) -> None:
    """Each bad entry is rejected on its own, with what is accepted."""
    parsed = parse_entries([entry, "fine"])  # type: ignore[list-item]
    assert [term.text for term in parsed.terms] == ["fine"]
    assert reason in parsed.rejected[0][1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.json", "{", "not JSON"),
        ("g.json", '{"a": 1}', "must be a list"),
        ("g.csv", "a,b\n1,2\n", "'term' among them"),
        ("g.docx", "x", "unknown form .docx"),
    ],
)
def test_unusable_files_name_the_trouble(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    """The error is one line that names the file and what is accepted."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(GlossaryError, match=message) as caught:
        load(path)
    assert name in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A path that does not exist is named."""
    with pytest.raises(GlossaryError, match=r"cannot read glossary .*nowhere\.txt"):
        load(tmp_path / "nowhere.txt")
