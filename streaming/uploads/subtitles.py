"""Finals as subtitles (SubRip, WebVTT): cues of at most two lines, broken where phrases end.

Where to break is a search for the cheapest layout of a final's words (as Knuth and Plass, "Breaking
paragraphs into lines", 1981, do it for lines): each cue has a price, and so has each break, the
higher the closer the words around it belong together.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from a2p_engine.types import SAMPLE_RATE_HZ, Word
from streaming.events import Final
from streaming.segmenter import samples

# What broadcasters allow: more cannot be read in the time it is spoken.
LINE_CHARS = 42
MAX_CUE_S = 7.0
MIN_CUE_S = 1.0
LEAST_CUE_S = 0.04  # one frame of video, should two cues claim the same moment
PAUSE_SAMPLES = samples(0.3)

SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001, full-width marks are meant
CLAUSE_ENDS = (",", ";", ":", "、", "，", "；", "：")  # noqa: RUF001
# A phrase begins with these, ...
OPENERS = frozenset(
    "and but or nor so because although though while when where which who that if unless until "
    "since after before in on at with without from into for to of by as than between".split()
)
# ... and goes on after these. Words of other languages are broken at marks and pauses alone.
BINDERS = frozenset(
    "a an the my your his her its our their this these those no every each some any of to in on at "
    "by for with from is are was were be been will would can could may might must not very".split()
)

# Prices; only their ratios count.
CUE_PRICE = 2.0
SENTENCE_INSIDE_PRICE = 3.0  # a sentence that fills a line, with the beginning of the next one
SHORT_PRICE = 3.0  # of a cue of next to nothing
SHORT_CHARS = 15
LINE_SHARE = 0.5  # a break between the lines of a cue hurts less than one between cues
UNEVEN_PRICE = 3.0  # of a full line over an empty one


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """What a subtitle shows at a time."""

    start_s: float
    end_s: float
    text: str


def to_srt(finals: Iterable[Final]) -> str:
    """SubRip."""
    blocks = []
    for number, cue in enumerate(cues(finals), 1):
        text = cue.text.replace("-->", "->")
        blocks.append(
            f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{text}\n"
        )
    return "\n".join(blocks)


def to_vtt(finals: Iterable[Final]) -> str:
    """WebVTT."""
    blocks = ["WEBVTT\n"]
    for cue in cues(finals):
        text = html.escape(cue.text, quote=False)
        blocks.append(f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}\n")
    return "\n".join(blocks)


def cues(finals: Iterable[Final]) -> list[Cue]:
    """Split finals into cues that do not overlap; short ones stay as long as there is room."""
    return _apart([cue for final in finals if final.text for cue in _split(_pieces(final))])


def _apart(found: Sequence[Cue]) -> list[Cue]:
    """The cues with times, in milliseconds, that rise and never overlap."""
    placed: list[Cue] = []
    free_s = 0.0
    for number, cue in enumerate(found):
        start_s = max(cue.start_s, free_s)
        end_s = max(cue.end_s, start_s + MIN_CUE_S)
        if number + 1 < len(found):
            end_s = min(end_s, max(found[number + 1].start_s, start_s + LEAST_CUE_S))
        free_s = round(end_s, 3)
        placed.append(Cue(start_s=round(start_s, 3), end_s=free_s, text=cue.text))
    return placed


# Words


def _pieces(final: Final) -> list[Word]:
    """The final's words, none longer than a line; without any, its text spread over its time."""
    words = final.words or _spread(final)
    return [piece for word in words for piece in _cut(word)]


def _spread(final: Final) -> Iterator[Word]:
    texts = [f" {text}" for text in final.text.split()]
    total, at = sum(map(len, texts)), 0
    for text in texts:
        yield _part(text, final.start_sample, final.end_sample, at / total, len(text) / total)
        at += len(text)


def _cut(word: Word) -> Iterator[Word]:
    text = " ".join(word.text.split())
    space = " " if word.text[:1].isspace() else ""
    for at in range(0, len(text), LINE_CHARS):
        piece, share = text[at : at + LINE_CHARS], min(LINE_CHARS, len(text) - at) / len(text)
        start, end = word.start_sample, word.end_sample
        yield _part("" if at else space, start, end, at / len(text), share, piece)


def _part(lead: str, start: int, end: int, at: float, share: float, text: str = "") -> Word:
    """A word in a part of some time."""
    from_sample = start + round((end - start) * at)
    to_sample = start + round((end - start) * (at + share))
    return Word(text=lead + text, start_sample=from_sample, end_sample=to_sample, probability=0.0)


# Layout


def _split(words: Sequence[Word]) -> list[Cue]:
    """The cheapest sequence of cues."""
    layout = _Layout(words)
    best = [(0.0, 0)]  # price of the first n words, and where their last cue begins
    for end in range(1, len(words) + 1):
        ways = []
        for start in range(end - 1, -1, -1):
            if (price := layout.price(start, end)) is None:
                break  # a cue that begins even earlier will not do either
            ways.append((best[start][0] + price, start))
        best.append(min(ways))
    found, end = [], len(words)
    while end:
        start = best[end][1]
        found.append(layout.cue(start, end))
        end = start
    return found[::-1]


class _Layout:
    """What it costs to show some of the words as a cue."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._words = words
        self._breaks = [*(_break_price(one, two) for one, two in pairwise(words)), 0.0]
        self._ends = [word.text.endswith(SENTENCE_ENDS) for word in words]
        self._chars = [0, *accumulate(len(word.text) for word in words)]

    def price(self, start: int, end: int) -> float | None:
        """The price of the cue of words [start, end); None if it is too much for one."""
        if end - start > 1 and self._duration_s(start, end) > MAX_CUE_S:
            return None
        lines = self._lines(start, end)
        if lines is None:
            return None
        short = max(0.0, 1 - self._length(start, end) / SHORT_CHARS)
        inside = any(
            self._ends[at - 1] and self._length(start, at) >= LINE_CHARS // 2
            for at in range(start + 1, end)
        )
        extra = SHORT_PRICE * short + SENTENCE_INSIDE_PRICE * inside
        return CUE_PRICE + lines[0] + extra + self._breaks[end - 1]

    def cue(self, start: int, end: int) -> Cue:
        """The cue of words [start, end)."""
        lines = self._lines(start, end)
        assert lines is not None  # it has a price
        texts = (self._text(start, lines[1]), self._text(lines[1], end))
        return Cue(
            start_s=self._words[start].start_sample / SAMPLE_RATE_HZ,
            end_s=self._words[end - 1].end_sample / SAMPLE_RATE_HZ,
            text="\n".join(filter(None, texts)),
        )

    def _lines(self, start: int, end: int) -> tuple[float, int] | None:
        """Price of the cheapest way to make lines, and where the second one begins."""
        if self._length(start, end) <= LINE_CHARS:
            return 0.0, end
        ways = []
        for at in range(end - 1, start, -1):
            first, second = self._length(start, at), self._length(at, end)
            if second > LINE_CHARS:
                break
            if first <= LINE_CHARS:
                uneven = UNEVEN_PRICE * abs(first - second) / LINE_CHARS
                ways.append((LINE_SHARE * self._breaks[at - 1] + uneven, at))
        return min(ways, default=None)

    def _length(self, start: int, end: int) -> int:
        """Characters of words [start, end) without the space in front."""
        return self._chars[end] - self._chars[start] - self._words[start].text.startswith(" ")

    def _duration_s(self, start: int, end: int) -> float:
        return (self._words[end - 1].end_sample - self._words[start].start_sample) / SAMPLE_RATE_HZ

    def _text(self, start: int, end: int) -> str:
        return "".join(word.text for word in self._words[start:end]).strip()


def _break_price(one: Word, two: Word) -> float:
    """What it costs to break between two words."""
    if one.text.endswith(SENTENCE_ENDS):
        return 0.0
    if one.text.endswith(CLAUSE_ENDS) or two.start_sample - one.end_sample >= PAUSE_SAMPLES:
        return 1.0
    if not two.text.startswith(" "):
        return 5.0  # two halves of a word, or a language without spaces
    if one.text.strip().lower() in BINDERS:
        return 6.0
    return 2.0 if two.text.strip().lower() in OPENERS else 4.0


def _clock(time_s: float, point: str) -> str:
    milliseconds = round(time_s * 1000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
