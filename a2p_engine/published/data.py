"""Training and test sets and term banks in the published JSON form.

A set is a list of ``{"id", "wav_path", "en", "zh", "hints"}``: the audio, what is said in it in one
language or both, and the terms that are said. ``hints`` is ``{"en": [...], "zh": [...]}`` or a list
of ``{"en", "zh"}`` pairs. With ``tar_path`` the audio is the member ``tar_info`` of that archive. A
term bank is ``{"en": [...], "zh": [...]}``; what stands at one place means the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from a2p_engine.audio import decode_audio, read_audio
from a2p_engine.errors import AudioError, GlossaryError, InputError
from a2p_engine.published.tar_members import open_tar
from a2p_engine.types import Samples

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Moved(NamedTuple):
    """Where files lie whose published paths begin with ``old``."""

    old: str
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioPlace:
    """Where the audio of an utterance is: a file, or a member of a tar archive."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    def read(self) -> Samples:
        """The audio: float32 [n], mono, 16 kHz.

        Raises:
            AudioError: there is none, or it cannot be read.
        """
        if self.member is None:
            return read_audio(self.path)
        try:
            data = open_tar(self.path).read(self.member)
        except InputError as error:
            raise AudioError(str(error)) from error
        return decode_audio(data, str(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One utterance.

    Attributes:
        id: as it says, or its path where it has none.
        audio: where the audio is.
        texts: what is said, by language; those that were asked for.
        terms: terms that are said, by language, as often as they are listed.
        seeds: whether the terms are words from which training makes phrases, as the published code
            does with hints by language unless the audio is in an archive.
    """

    id: str
    audio: AudioPlace
    texts: dict[Language, str]
    terms: dict[Language, tuple[str, ...]]
    seeds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TermBank:
    """Terms by language; what stands at one place means the same. Repeats are kept."""

    terms: dict[Language, tuple[str, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.terms.values())))


def read_entries(
    path: Path, languages: Sequence[Language], moved: Sequence[Moved] = ()
) -> list[Entry]:
    """Read a set.

    Args:
        path: the JSON file; relative paths in it start from its folder.
        languages: those of which texts and terms are needed.
        moved: first that fits is applied to each path in the set.

    Raises:
        InputError: the set cannot be read, is empty, or lacks something; the entry is named.
    """
    values = _read_json(path)
    if not isinstance(values, list) or not values:
        raise InputError(f"{path}: a set is a list of objects, with one at least")
    reader = _Reader(path, languages, moved)
    return [reader.entry(value, number) for number, value in enumerate(values)]


def read_bank(path: Path, languages: Sequence[Language]) -> TermBank:
    """Read a term bank.

    Args:
        path: the JSON file.
        languages: those that are needed.

    Raises:
        GlossaryError: it cannot be read, lacks a language, is empty or not aligned.
    """
    try:
        values = _read_json(path)
    except InputError as error:
        raise GlossaryError(str(error)) from error
    if not isinstance(values, dict):
        raise GlossaryError(f"{path}: a term bank is an object with a list for each language")
    columns = {language: _column(values, language, path) for language in languages}
    sizes = {language: len(column) for language, column in columns.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{size} in {language!r}" for language, size in sizes.items())
        raise GlossaryError(f"{path}: its lists must be equally long; there are {said}")
    return TermBank(terms=columns)


def place(path: str, base: Path, moved: Sequence[Moved]) -> Path:
    """Where a file is now that a published path names."""
    for old, new in moved:
        if path.startswith(old):
            return Path(new + path[len(old) :])
    return base / path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error


def _column(bank: dict[str, Any], language: Language, path: Path) -> tuple[str, ...]:
    column = bank.get(language)
    if not _is_texts(column) or not column:
        raise GlossaryError(f"{path}: {language!r} must be a list of strings, with one at least")
    for at, text in enumerate(column):
        if not text.strip():
            raise GlossaryError(f"{path}: {language!r} is empty at place {at}")
    return tuple(column)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class _Reader:
    """Entries of one file, checked."""

    def __init__(self, path: Path, languages: Sequence[Language], moved: Sequence[Moved]) -> None:
        self._path, self._languages, self._moved = path, languages, moved

    def entry(self, value: object, number: int) -> Entry:
        where = f"{self._path}: entry {number}"
        if not isinstance(value, dict):
            raise InputError(f"{where} is no object")
        name = value.get("id", value.get("wav_path"))
        if not isinstance(name, str | int):
            raise InputError(f"{where}: 'id' must be a string or a number")
        where = f"{where} ({name})"
        hints = value.get("hints")
        return Entry(
            id=str(name),
            audio=self._audio(value, where),
            texts={language: _text(value, language, where) for language in self._languages},
            terms={language: _terms(hints, language, where) for language in self._languages},
            seeds=isinstance(hints, dict) and "tar_path" not in value,
        )

    def _audio(self, value: dict[str, Any], where: str) -> AudioPlace:
        if "tar_path" in value:
            archive, member = (_text(value, key, where) for key in ("tar_path", "tar_info"))
            return AudioPlace(path=self._place(archive), member=member)
        if "tar_info" in value:
            raise InputError(f"{where}: 'tar_info' needs 'tar_path', the archive it is in")
        return AudioPlace(path=self._place(_text(value, "wav_path", where)))

    def _place(self, path: str) -> Path:
        return place(path, self._path.parent, self._moved)


def _text(value: dict[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: {key!r} must be a string that is not empty")
    return text


def _terms(hints: object, language: Language, where: str) -> tuple[str, ...]:
    """Terms of one language, whatever the form of the hints."""
    found: object = None
    if isinstance(hints, dict):
        found = hints.get(language)
    elif isinstance(hints, list) and all(isinstance(pair, dict) for pair in hints):
        found = [pair.get(language) for pair in hints]
    if not isinstance(found, list) or not all(isinstance(t, str) and t.strip() for t in found):
        raise InputError(
            f"{where}: 'hints' must hold terms in {language!r}: "
            '{"en": [...], "zh": [...]} or a list of {"en", "zh"} pairs'
        )
    return tuple(found)
