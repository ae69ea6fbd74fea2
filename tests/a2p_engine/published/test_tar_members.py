"""Members of tar archives: read where they lie, never elsewhere."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from a2p_engine.errors import InputError
from a2p_engine.published import tar_members
from a2p_engine.published.tar_members import TarMembers, open_tar
from tests.a2p_engine.published.sets import write_tar


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_read_in_any_order(tmp_path: Path, form: int) -> None:
    """In each form of tar, also with names that are long or in Chinese."""
    long = "/".join(["a" * 60] * 3)
    members = {"b.wav": b"two" * 999, long: b"long", "a.wav": b""}
    if form != tarfile.USTAR_FORMAT:
        members["音频/一.wav"] = b"one"
    with tarfile.open(tmp_path / "t.tar", "w", format=form) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    found = TarMembers(tmp_path / "t.tar")
    assert len(found) == len(members)
    assert {name: found.read(name) for name in reversed(members)} == members


def test_the_last_of_equal_names_counts(tmp_path: Path) -> None:
    """As tar would unpack it."""
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for data in (b"old", b"newer"):
            member = tarfile.TarInfo("m")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert TarMembers(tmp_path / "t.tar").read("m") == b"newer"


def test_no_name_leads_out_of_the_archive(tmp_path: Path) -> None:
    """Links, devices and names with dots are no way to files beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret")
            archive.addfile(member)
        device = tarfile.TarInfo("null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
        inside = tarfile.TarInfo("../secret")
        inside.size = 6
        archive.addfile(inside, io.BytesIO(b"public"))
    members = TarMembers(tmp_path / "t.tar")
    for name in ("soft", "hard", "null", "secret", str(tmp_path / "secret")):
        with pytest.raises(InputError, match="holds no regular file"):
            members.read(name)
    assert members.read("../secret") == b"public"


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """What is accepted is said."""
    write_tar(tmp_path / "t.tar", {"m": b"data"})
    (tmp_path / "t.tar.gz").write_bytes(gzip.compress((tmp_path / "t.tar").read_bytes()))
    with pytest.raises(InputError, match=r"t\.tar\.gz: .*uncompressed tar archives are accepted"):
        TarMembers(tmp_path / "t.tar.gz")


def test_a_cut_archive_is_noticed(tmp_path: Path) -> None:
    """When the member that is cut is read, not with less audio."""
    write_tar(tmp_path / "t.tar", {"a": b"x" * 600, "b": b"y" * 5000})
    whole = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(whole[:4000])
    with pytest.raises(InputError, match=r"t\.tar"):
        TarMembers(tmp_path / "t.tar").read("b")


def test_a_huge_member_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is said."""
    monkeypatch.setattr(tar_members, "MOST_BYTES", 3)
    write_tar(tmp_path / "t.tar", {"m": b"data"})
    with pytest.raises(InputError, match=r"'m' in .* has 4 bytes; at most 3"):
        TarMembers(tmp_path / "t.tar").read("m")


def test_an_archive_is_indexed_once(tmp_path: Path) -> None:
    """Sets name the same few archives a hundred thousand times."""
    write_tar(tmp_path / "t.tar", {"m": b"data"})
    assert open_tar(tmp_path / "t.tar") is open_tar(tmp_path / "t.tar")
