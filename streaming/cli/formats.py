"""Finals as text, JSON or subtitles."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from streaming.events import Final
from streaming.uploads.subtitles import to_srt, to_vtt


def to_text(finals: Sequence[Final]) -> str:
    """One line for each segment."""
    return "".join(f"{final.text}\n" for final in finals if final.text)


def to_json(finals: Sequence[Final]) -> str:
    """Everything that is known, fields as in docs/protocol.md."""
    segments = [
        {key: value for key, value in final.to_dict().items() if key not in ("type", "revision")}
        for final in finals
    ]
    text = " ".join(final.text for final in finals if final.text)
    return json.dumps({"text": text, "segments": segments}, ensure_ascii=False, indent=2) + "\n"


WRITERS: dict[str, Callable[[Sequence[Final]], str]] = {
    "txt": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
}
