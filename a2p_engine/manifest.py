"""Manifests: recordings with what is said in them, one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from a2p_engine.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One line of a manifest.

    Attributes:
        id: unique within the manifest.
        audio: the audio file.
        text: what is said, None when only the terms are known.
        terms: glossary terms that are said.
        language: ISO 639-1 code of what is said.
        translation: of the text, None when it is not known.
        targets: what the terms are in the translation, one for each; none when not known.
    """

    id: str
    audio: Path
    text: str | None
    terms: tuple[str, ...]
    language: str = "en"
    translation: str | None = None
    targets: tuple[str, ...] = ()


def read_manifest(path: Path) -> list[Recording]:
    """Read lines of {"id", "audio", "text", "terms", "language", "translation", "targets"}.

    Paths of audio are relative to the manifest.

    Raises:
        InputError: the manifest or a line of it cannot be read, or it is empty; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read manifest {path}: {error}") from error
    recordings = [
        _parse(line, path, number) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not recordings:
        raise InputError(f"manifest {path} lists no recordings")
    return recordings


def _parse(line: str, path: Path, number: int) -> Recording:
    try:
        entry = json.loads(line)
        text, translation = entry.get("text"), entry.get("translation")
        recording = Recording(
            id=str(entry["id"]),
            audio=path.parent / entry["audio"],
            text=None if text is None else str(text),
            terms=tuple(map(str, entry.get("terms") or ())),
            language=str(entry.get("language") or "en"),
            translation=None if translation is None else str(translation),
            targets=tuple(map(str, entry.get("targets") or ())),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}:{number}: not a manifest line: an object with 'id' and 'audio' is accepted"
        ) from error
    if recording.targets and len(recording.targets) != len(recording.terms):
        raise InputError(
            f"{path}:{number}: {len(recording.targets)} targets for {len(recording.terms)} terms; "
            "one for each is accepted"
        )
    return recording
