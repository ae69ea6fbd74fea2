"""Messages a client sends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from clients.audio import AudioFormat

GlossaryEntry = str | Mapping[str, Any]
Glossary = str | Sequence[GlossaryEntry] | Mapping[str, Any]
Message = dict[str, Any]

# An edit of many terms is split: a message of more than 1 MiB would be refused.
EDIT_BYTES = 256 * 1024


def start_message(
    audio: AudioFormat,
    language: str,
    task: str,
    glossary: Glossary | None,
    options: Mapping[str, Any] | None,
) -> Message:
    """The first message of a session."""
    message: Message = {
        "type": "start",
        "audio": {
            "encoding": audio.encoding,
            "sample_rate_hz": audio.sample_rate_hz,
            "channels": audio.channels,
        },
        "language": language,
        "task": task,
        "options": dict(options or {}),
        "resumable": True,
    }
    return message if glossary is None else message | {"glossary": _choice(glossary)}


def edit_messages(add: Sequence[GlossaryEntry], remove: Sequence[str]) -> Iterator[Message]:
    """A glossary edit as one message, or as many as its length needs."""
    for some, gone in zip_longest(_parts(add), _parts(remove), fillvalue=()):
        yield {"type": "glossary.edit", "add": list(some), "remove": list(gone)}


def term_of(entry: GlossaryEntry) -> str:
    """The text by which an entry can be removed."""
    return entry if isinstance(entry, str) else str(entry.get("term", ""))


def _choice(glossary: Glossary) -> Message:
    if isinstance(glossary, str):
        return {"name": glossary}
    if isinstance(glossary, Mapping):
        return dict(glossary)
    return {"terms": list(glossary)}


def _parts(entries: Sequence[GlossaryEntry]) -> Iterator[Sequence[GlossaryEntry]]:
    """Entries in runs that fit into one message each."""
    part: list[GlossaryEntry] = []
    size = 0
    for entry in entries:
        length = len(json.dumps(entry)) + 2
        if part and size + length > EDIT_BYTES:
            yield part
            part, size = [], 0
        part.append(entry)
        size += length
    if part:
        yield part
