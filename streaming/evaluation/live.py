"""What a listener experiences: utterances spoken at a running server at real-time pace, measured.

Latencies are taken from the audio clock: a sample counts as spoken at the moment it is sent, and
the server's own account of when speech began and ended is where they start. ``first_partial_s``
and ``final_s`` are therefore what a viewer waits, detection and hangover included.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from a2p_engine.errors import InputError
from a2p_engine.evaluation.words import TermFinder, normalised, split_errors
from a2p_engine.manifest import Recording
from a2p_engine.text import mentions, plain
from clients.audio import AudioFormat, audio_duration_s, stream_file
from clients.client import CaptionClient
from clients.events import Event, Final, Partial, SpeechStarted, SpeechStopped

# Silence sent behind a recording, so that its last words end as speech ends in a live stream.
TRAIL_S = 1.5


@dataclass(kw_only=True)
class Record:
    """What came of one utterance.

    Attributes:
        hypothesis: its finals, joined.
        offered: glossary terms offered to the speech model in finals, with their probability.
        found: its terms that the hypothesis contains.
        inserted: glossary terms that were written but, says the reference, not spoken; normalised.
        first_partial_s: from the beginning of speech to its first words, per segment.
        final_s: from the end of speech to the final, per segment that ended with speech.
        lag_s: how far each shown text was behind the audio clock.
        erased_words: words taken back in volatile text.
    """

    id: str
    audio_s: float
    reference: str | None
    hypothesis: str = ""
    terms: tuple[str, ...] = ()
    offered: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    inserted: list[str] = field(default_factory=list)
    first_partial_s: list[float] = field(default_factory=list)
    final_s: list[float] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    erased_words: int = 0


async def speak(
    url: str, recording: Recording, *, glossary: str | None, pace: float = 1.0
) -> AsyncIterator[tuple[float, Event]]:
    """Stream one utterance; yield each event with the audio clock (s) at which it came."""
    options = {"stats_interval_ms": 1000}
    client = CaptionClient(url, glossary=glossary or {"terms": []}, options=options)
    async with client:
        begin = time.perf_counter()
        async for event in client.caption(_with_trail(recording.audio, pace)):
            yield (time.perf_counter() - begin) * pace, event


async def measure(
    url: str,
    recording: Recording,
    *,
    glossary: str | None,
    finder: TermFinder | None = None,
    pace: float = 1.0,
    watch: Callable[[Event], None] = lambda event: None,
) -> Record:
    """Stream one utterance and measure it.

    Args:
        url: of the server.
        recording: what is streamed.
        glossary: name of the glossary; the server knows it.
        finder: of its terms, without which no insertion is counted.
        pace: 1 is real time.
        watch: sees each event as it comes.
    """
    record = Record(
        id=recording.id,
        audio_s=audio_duration_s(recording.audio),
        reference=recording.text,
        terms=recording.terms,
    )
    account = Account(record)
    async for clock_s, event in speak(url, recording, glossary=glossary, pace=pace):
        watch(event)
        account.take(clock_s, event)
    record.hypothesis = account.text
    record.found = [term for term in record.terms if mentions(record.hypothesis, term)]
    if record.reference is not None and finder is not None:
        written, said = (finder.find(normalised(t)) for t in (record.hypothesis, record.reference))
        false = written - said - set(map(normalised, record.terms))
        record.inserted = sorted(map(" ".join, false))
    return record


class Account:
    """Takes a session's events as they come and keeps its record up to date.

    Attributes:
        record: latencies, lags, words taken back, terms offered.
        finals: of the session.
        shown: partials and finals.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.finals: list[Final] = []
        self.shown = 0
        self._began: dict[int, float] = {}
        self._stopped: dict[int, float] = {}
        self._shown: dict[int, list[str]] = {}

    @property
    def text(self) -> str:
        """All finals, joined."""
        return " ".join(final.text for final in self.finals)

    @property
    def unfinished(self) -> int:
        """Segments of which words were shown, but that have no final."""
        finished = {final.segment_id for final in self.finals}
        return sum(bool(words) for key, words in self._shown.items() if key not in finished)

    def take(self, clock_s: float, event: Event) -> None:
        """Take an event and the audio clock (s) at which it came."""
        if isinstance(event, SpeechStarted):
            self._began[event.segment_id] = event.time_s
        elif isinstance(event, SpeechStopped):
            self._stopped[event.segment_id] = event.time_s
        elif isinstance(event, Partial | Final):
            self._show(clock_s, event)
            if isinstance(event, Final):
                self._finish(clock_s, event)

    def _show(self, clock_s: float, event: Partial | Final) -> None:
        record, segment = self.record, event.segment_id
        self.shown += 1
        record.lag_s.append(clock_s - event.end_s)
        words = plain(event.text).split()
        before = self._shown.get(segment, [])
        if words and not before and segment in self._began:
            record.first_partial_s.append(clock_s - self._began.pop(segment))
        record.erased_words += len(before) - _common(before, words)
        self._shown[segment] = words

    def _finish(self, clock_s: float, final: Final) -> None:
        self.finals.append(final)
        self.record.offered |= {use.term: use.probability for use in final.terms}
        if final.segment_id in self._stopped and final.reason != "max_length":
            self.record.final_s.append(clock_s - self._stopped[final.segment_id])


async def evaluate_streaming(
    url: str,
    recordings: Iterable[Recording],
    *,
    glossary: str | None,
    terms: Iterable[str] = (),
    pace: float = 1.0,
) -> AsyncIterator[Record]:
    """Measure utterances one after the other, each in a session of its own.

    Args:
        url: of the server.
        recordings: the utterances.
        glossary: name of the glossary; the server knows it.
        terms: what is in it.
        pace: 1 is real time.
    """
    finder = TermFinder(terms)
    for recording in recordings:
        yield await measure(url, recording, glossary=glossary, finder=finder, pace=pace)


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Figures over all records; None where there is nothing to take them from."""
    spoken = [record for record in records if record.reference is not None]
    audio_s = sum(record.audio_s for record in records)
    words = sum(len(plain(record.hypothesis).split()) for record in records)
    terms = sum(len(record.terms) for record in records)
    checked_h = sum(record.audio_s for record in spoken) / 3600
    inserted = sum(len(record.inserted) for record in spoken)
    erased = sum(record.erased_words for record in records)
    return {
        "utterances": len(records),
        "audio_s": round(audio_s, 1),
        **word_error_rates([record for record in spoken if normalised(record.reference or "")]),
        "terms": terms,
        "term_recall": _ratio(sum(len(record.found) for record in records), terms),
        "false_insertions": inserted,
        "false_insertions_per_hour": _ratio(inserted, checked_h),
        "first_partial_s": percentiles(x for record in records for x in record.first_partial_s),
        "final_s": percentiles(x for record in records for x in record.final_s),
        "lag_s": percentiles(x for record in records for x in record.lag_s),
        "lag_growth_s": _growth([x for record in records for x in record.lag_s]),
        "normalized_erasure": _ratio(erased, words),
    }


def word_error_rates(records: Sequence[Record]) -> dict[str, float | None]:
    """WER over all records, and that of words outside (U-WER) and in (B-WER) their terms."""
    splits = [
        split_errors(
            normalised(record.reference or ""),
            normalised(record.hypothesis),
            map(normalised, record.terms),
        )
        for record in records
    ]
    return {
        "wer": _ratio(sum(s.errors for s in splits), sum(s.words for s in splits)),
        "u_wer": _ratio(sum(s.other_errors for s in splits), sum(s.other_words for s in splits)),
        "b_wer": _ratio(sum(s.biased_errors for s in splits), sum(s.biased_words for s in splits)),
    }


def percentiles(values: Iterable[float]) -> dict[str, float] | None:
    """Median, 95th and 99th percentile."""
    listed = list(values)
    if not listed:
        return None
    p50, p95, p99 = np.percentile(listed, [50, 95, 99])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "n": len(listed)}


def dump(records: Iterable[Record], path: Path) -> None:
    """Write the records as JSON lines.

    Raises:
        InputError: the file cannot be written.
    """
    lines = (json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


async def _with_trail(path: Path, pace: float) -> AsyncIterator[bytes]:
    async for chunk in stream_file(path, pace=pace):
        yield chunk
    step_s = 0.1
    for _ in range(round(TRAIL_S / step_s)):
        if pace:
            await asyncio.sleep(step_s / pace)
        yield bytes(AudioFormat().bytes_of(step_s))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the common beginning."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _growth(lags_s: Sequence[float]) -> float | None:
    """Median lag of the last third less that of the first third."""
    third = len(lags_s) // 3
    if not third:
        return None
    return round(float(np.median(lags_s[-third:]) - np.median(lags_s[:third])), 3)


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
