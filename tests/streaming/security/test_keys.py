"""API keys at rest: made, kept as a hash, read again when the file changes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from streaming.errors import SettingsError
from streaming.security.keys import KEY, KeyFile, KeyLimits, new_key, read_keys, write_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key file without keys."""
    path = tmp_path / "keys.json"
    write_keys(path, [])
    return path


def test_a_key_is_long_and_its_file_does_not_hold_it(file: Path) -> None:
    """The secret has 192 bits and stands neither in the file nor in a repr."""
    made = new_key("room 1")
    assert KEY.fullmatch(made.secret)
    random_part = made.secret.rpartition("_")[2]
    assert len(random_part) * 4 == 192
    write_keys(file, [made.record])
    for text in (file.read_text(), repr(made), repr(made.record), str(KeyFile(file))):
        assert random_part not in text
    assert made.record.sha256 not in repr(made)
    assert made.record.sha256 in file.read_text()


def test_only_the_whole_key_matches() -> None:
    """A key of another id or with another end is another key."""
    made, other = new_key("a"), new_key("a")
    assert made.record.matches(made.secret)
    assert not made.record.matches(other.secret)
    assert not made.record.matches(made.secret[:-1])
    assert made.secret != other.secret


def test_ids_in_use_are_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key never takes the place of an old one."""
    ids = iter(["00000001", "00000001", "00000002"])
    made = lambda n: next(ids) if n == 4 else "0"  # noqa: E731
    monkeypatch.setattr("streaming.security.keys.secrets.token_hex", made)
    assert new_key("a", taken=["00000001"]).record.id == "00000002"


def test_the_day_of_expiry_is_the_first_without_the_key() -> None:
    """Until the day before it works, and without a day it works for ever."""
    record = new_key("a", expires=date(2030, 2, 1)).record
    assert not record.expired(date(2030, 1, 31))
    assert record.expired(date(2030, 2, 1))
    assert not new_key("a").record.expired(date(9999, 1, 1))


def test_what_is_written_is_read(file: Path) -> None:
    """Every field survives, and the file is for its owner alone."""
    limits = KeyLimits(max_sessions=3, audio_s_per_hour=3600)
    records = (
        new_key("a", ["captions", "glossary:write"], limits, date(2030, 1, 1)).record,
        new_key("b").record.model_copy(update={"disabled": True}),
    )
    write_keys(file, records)
    assert read_keys(file) == records
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_file_that_others_can_write_is_refused(file: Path) -> None:
    """Whoever can write it could let himself in."""
    file.chmod(0o620)
    with pytest.raises(SettingsError, match=r"others can write keys .*chmod 600"):
        read_keys(file)


def test_a_file_that_others_can_read_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It holds names and hashes of random keys, so a warning is enough."""
    file.chmod(0o640)
    assert read_keys(file) == ()
    assert "others can read" in caplog.text and "chmod 600" in caplog.text


def _record(**changed: object) -> dict[str, object]:
    return {**json.loads(new_key("a").record.model_dump_json(exclude_none=True)), **changed}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Invalid JSON"),
        ("[]", "keys .*should be an object"),
        ('{"keys": [], "kyes": []}', "kyes: Extra inputs"),
        (json.dumps({"keys": [_record(scopes=["caption"])]}), r"keys\.0\.scopes\.0: .*'captions'"),
        (json.dumps({"keys": [_record(sha256="abc")]}), r"keys\.0\.sha256: .*pattern"),
        (json.dumps({"keys": [_record(limits={"max_session": 1})]}), r"max_session: Extra"),
        (json.dumps({"keys": [_record(id="00000001"), _record(id="00000001")]}), "id occurs twice"),
    ],
)
def test_a_wrong_file_is_one_clear_line(file: Path, text: str, named: str) -> None:
    """The error names the place and does not show what stands there."""
    file.write_text(text)
    with pytest.raises(SettingsError, match=named) as caught:
        read_keys(file)
    assert "\n" not in str(caught.value) and "abc" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A server that was told of keys never goes without."""
    with pytest.raises(SettingsError, match=r"cannot read keys .*No such file"):
        KeyFile(tmp_path / "keys.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the new key and no other."""
    old = new_key("old").record
    write_keys(file, [old])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streaming.security.keys.os.fsync", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        write_keys(file, [old, new_key("new").record])
    assert read_keys(file) == (old,)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["", " a", "a\nb", "x" * 64, "ä/b"])
def test_names_that_cannot_stand_in_a_log_are_refused(name: str) -> None:
    """Names are short and of one line."""
    with pytest.raises(SettingsError, match="cannot make a key: name"):
        new_key(name)


def test_a_change_counts_at_once(file: Path) -> None:
    """Keys are added, disabled and removed without a restart."""
    keys, record = KeyFile(file), new_key("a").record
    assert keys.find(record.id) is None
    write_keys(file, [record])
    assert keys.find(record.id) == record
    write_keys(file, [record.model_copy(update={"disabled": True})])
    found = keys.find(record.id)
    assert found is not None and found.disabled
    write_keys(file, [])
    assert keys.find(record.id) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.chmod(0o666),
    ],
)
def test_a_file_that_goes_bad_leaves_the_keys_as_they_were(
    file: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A slip of the editor locks nobody out and lets nobody in, and is told once."""
    record = new_key("a").record
    write_keys(file, [record])
    keys = KeyFile(file)
    spoil(file)
    assert keys.find(record.id) == record
    assert keys.find(record.id) == record
    errors = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert len(errors) == 1 and "stay as they were" in errors[0].getMessage()
