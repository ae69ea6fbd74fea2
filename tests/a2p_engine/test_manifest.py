"""Manifests: what a line may hold, and what is said of a line that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2p_engine.errors import InputError
from a2p_engine.manifest import Recording, read_manifest


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    """Text may be unknown, terms may be missing, blank lines do not count."""
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": 1, "audio": "a.flac", "text": null, "terms": ["x"]}\n\n')
    assert read_manifest(manifest) == [
        Recording(id="1", audio=tmp_path / "a.flac", text=None, terms=("x",))
    ]


def test_a_translation_has_a_target_for_each_term(tmp_path: Path) -> None:
    """Or none at all; another number names the line."""
    manifest = tmp_path / "m.jsonl"
    entry = {"id": "a", "audio": "a.flac", "text": "Hola", "language": "es", "translation": "Hello"}
    manifest.write_text(json.dumps(entry | {"terms": ["hola"], "targets": ["hello"]}))
    (recording,) = read_manifest(manifest)
    assert (recording.language, recording.translation) == ("es", "Hello")
    assert (recording.terms, recording.targets) == (("hola",), ("hello",))
    manifest.write_text(json.dumps(entry | {"terms": ["hola"]}))
    assert read_manifest(manifest)[0].targets == ()
    manifest.write_text(json.dumps(entry | {"terms": ["hola"], "targets": ["hello", "hi"]}))
    with pytest.raises(InputError, match=r"m\.jsonl:1: 2 targets for 1 terms"):
        read_manifest(manifest)


@pytest.mark.parametrize("line", ["{", '{"id": "x"}', "[]", "3"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    """File and line number are in the error."""
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": 1, "audio": "a.flac"}\n' + line)
    with pytest.raises(InputError, match=r"m\.jsonl:2: not a manifest line"):
        read_manifest(manifest)


def test_missing_and_empty_manifests(tmp_path: Path) -> None:
    """Both are errors of one line."""
    with pytest.raises(InputError, match="cannot read manifest"):
        read_manifest(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="lists no recordings"):
        read_manifest(tmp_path / "empty.jsonl")
