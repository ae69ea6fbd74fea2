"""``a2p keys``: made once, listed without secrets, withdrawn at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.cli import main
from streaming.dialects.base import Handshake
from streaming.errors import Unauthorised
from streaming.security.auth import Authenticator
from streaming.security.keys import KEY, KeyFile, KeyLimits, read_keys


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands find their keys; nothing is there yet."""
    path = tmp_path / "keys.json"
    monkeypatch.setenv("A2P_KEYS_FILE", str(path))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints."""
    assert main(["keys", *arguments]) == 0
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command fails."""
    assert main(["keys", *arguments]) in (1, 2)
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    return complaint


def test_a_key_is_printed_once_and_works(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is the key alone; its record has what was asked for."""
    options = "--scope captions --scope metrics --max-sessions 4 --sessions-per-minute 10"
    options += " --audio-minutes-per-hour 120 --max-session-minutes 90 --expires 2999-12-31"
    printed = run(capsys, "add", "town hall", *options.split())
    key = printed.strip()
    assert KEY.fullmatch(key) and printed == key + "\n"
    (record,) = read_keys(file)
    assert (record.name, record.scopes) == ("town hall", ("captions", "metrics"))
    assert record.limits == KeyLimits(
        max_sessions=4, sessions_per_minute=10, audio_s_per_hour=7200, max_session_s=5400
    )
    assert str(record.expires) == "2999-12-31"
    assert file.stat().st_mode & 0o777 == 0o600
    asked = Handshake(headers={"x-api-key": key})
    assert Authenticator(KeyFile(file)).identify(asked).name == "town hall"


def test_the_list_has_no_secrets(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each key, with its state; neither secret nor hash."""
    first = run(capsys, "add", "first", "--max-sessions", "2").strip()
    run(capsys, "add", "second", "--expires", "2020-01-01")
    run(capsys, "add", "third")
    run(capsys, "disable", "third")
    listed = run(capsys, "list").splitlines()
    assert [line.split()[1] for line in listed[1:]] == ["first", "second", "third"]
    assert [line.split()[-1] for line in listed[1:]] == ["valid", "expired", "disabled"]
    assert "max_sessions=2" in listed[1] and "captions glossary:read" in listed[1]
    text = "\n".join(listed)
    assert first.rpartition("_")[2] not in text
    assert all(record.sha256 not in text for record in read_keys(file))


def test_keys_are_withdrawn_from_a_running_server(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Disabled, enabled, removed, by name or id; the server takes notice by itself."""
    asked = Handshake(headers={"x-api-key": run(capsys, "add", "room").strip()})
    auth = Authenticator(KeyFile(file))
    run(capsys, "disable", "room")
    with pytest.raises(Unauthorised, match="is disabled"):
        auth.identify(asked)
    run(capsys, "enable", read_keys(file)[0].id)
    assert auth.identify(asked).name == "room"
    run(capsys, "remove", "room")
    with pytest.raises(Unauthorised, match="not valid"):
        auth.identify(asked)
    assert read_keys(file) == ()


def test_a_key_is_replaced_without_a_gap(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second key of a client has to be asked for, and then only ids tell the two apart."""
    old = run(capsys, "add", "room").strip()
    assert "room has a key; --another" in fails(capsys, "add", "room")
    new = run(capsys, "add", "room", "--another").strip()
    ids = [record.id for record in read_keys(file)]
    assert f"accepted: {ids[0]}, {ids[1]}" in fails(capsys, "remove", "room")
    auth = Authenticator(KeyFile(file))
    for key in (old, new):
        assert auth.identify(Handshake(headers={"x-api-key": key})).name == "room"
    run(capsys, "remove", ids[0])
    assert [record.id for record in read_keys(file)] == ids[1:]


def test_mistakes_are_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And leave the file as it was."""
    assert "'caption' is not a scope; accepted: captions" in fails(
        capsys, "add", "room", "--scope", "caption"
    )
    assert "max_sessions" in fails(capsys, "add", "room", "--max-sessions", "0")
    assert "name" in fails(capsys, "add", "two\nlines")
    assert "does not match" in fails(capsys, "add", "room", "--expires", "tomorrow")
    assert not file.exists()
    assert "cannot read keys" in fails(capsys, "list")
    run(capsys, "add", "room")
    assert "no key is called hall" in fails(capsys, "disable", "hall")


def test_the_file_has_to_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an option or a variable no file is guessed."""
    monkeypatch.delenv("A2P_KEYS_FILE", raising=False)
    assert "--file" in fails(capsys, "list")
