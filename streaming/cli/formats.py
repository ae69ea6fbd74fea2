"""Finals as text, JSON or subtitles (SubRip, WebVTT) of at most two lines of 42 characters."""

from __future__ import annotations

import html
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from a2p_engine.types import SAMPLE_RATE_HZ, Word
from streaming.events import Final

# What broadcasters allow: more cannot be read in the time it is spoken.
LINE_CHARS = 42
CUE_LINES = 2
MAX_CUE_S = 7.0
MIN_CUE_S = 1.0
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001, full-width marks are meant


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """What a subtitle shows at a time."""

    start_s: float
    end_s: float
    text: str


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


def to_srt(finals: Sequence[Final]) -> str:
    """SubRip."""
    blocks = []
    for number, cue in enumerate(cues(finals), 1):
        text = cue.text.replace("-->", "->")
        blocks.append(
            f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n"
        )
    return "\n".join(blocks)


def to_vtt(finals: Sequence[Final]) -> str:
    """WebVTT."""
    blocks = ["WEBVTT\n"]
    for cue in cues(finals):
        text = html.escape(cue.text, quote=False)
        blocks.append(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}\n")
    return "\n".join(blocks)


WRITERS: dict[str, Callable[[Sequence[Final]], str]] = {
    "txt": to_text,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
}


def cues(finals: Iterable[Final]) -> list[Cue]:
    """Split finals into cues that do not overlap; short ones stay as long as there is room."""
    found = [cue for final in finals if final.text for cue in _split(final)]
    placed = [
        replace(
            cue, end_s=min(max(cue.end_s, cue.start_s + MIN_CUE_S), max(after.start_s, cue.start_s))
        )
        for cue, after in pairwise(found)
    ]
    return [*placed, *found[-1:]]


def _split(final: Final) -> Iterator[Cue]:
    group: list[Word] = []
    for word in _words(final):
        if group and (_complete(group) or not _fits([*group, word])):
            yield _cue(group)
            group = []
        group.append(word)
    if group:
        yield _cue(group)


def _words(final: Final) -> Sequence[Word]:
    """The final's words; where it has none, its text spread evenly over its time."""
    if final.words:
        return final.words
    pieces = [f" {piece}" for piece in final.text.split()]
    total = sum(map(len, pieces))
    span, at, words = final.end_sample - final.start_sample, 0, []
    for piece in pieces:
        start = final.start_sample + span * at // total
        at += len(piece)
        end = final.start_sample + span * at // total
        words.append(Word(text=piece, start_sample=start, end_sample=end, probability=0.0))
    return words


def _text(group: Sequence[Word]) -> str:
    return "".join(word.text for word in group).strip()


def _complete(group: Sequence[Word]) -> bool:
    """A sentence that fills a line is better shown alone than with the beginning of the next."""
    text = _text(group)
    return text.endswith(_SENTENCE_ENDS) and len(text) >= LINE_CHARS // 2


def _fits(group: Sequence[Word]) -> bool:
    duration_s = (group[-1].end_sample - group[0].start_sample) / SAMPLE_RATE_HZ
    lines = textwrap.wrap(_text(group), LINE_CHARS)
    return len(lines) <= CUE_LINES and duration_s <= MAX_CUE_S


def _cue(group: Sequence[Word]) -> Cue:
    return Cue(
        start_s=group[0].start_sample / SAMPLE_RATE_HZ,
        end_s=group[-1].end_sample / SAMPLE_RATE_HZ,
        text="\n".join(_balanced(_text(group))),
    )


def _balanced(text: str) -> list[str]:
    """Lines of about equal length, as few as possible."""
    fewest = textwrap.wrap(text, LINE_CHARS)
    for width in range(math.ceil(len(text) / max(1, len(fewest))), LINE_CHARS):
        lines = textwrap.wrap(text, width)
        if len(lines) == len(fewest):
            return lines
    return fewest


def _clock(time_s: float, point: str) -> str:
    milliseconds = round(time_s * 1000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
