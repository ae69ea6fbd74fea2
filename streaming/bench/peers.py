"""Other live caption servers beside this one: same audio, same pace, same machine, same measures.

Servers differ in what they call a partial or a final, so all are judged by what a viewer sees: at
each moment some text that will stay and some that may change. The words of the last text are
aligned with those that were spoken, whose times are known, because the recordings are laid in a row
with pauses between them:

- first: from the beginning of an utterance to the first moment at which a word of it is shown;
- committed: from its end to the moment at which all its words stand in text that stays;
- erasure: words shown and taken back, per word of the last text (normalized erasure, Arivazhagan et
  al. 2020, arXiv 1912.03393, section 4.1, over whole words).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import websockets

from a2p_engine.audio import read_audio
from a2p_engine.errors import InputError
from a2p_engine.evaluation.words import align, normalised
from a2p_engine.manifest import Recording
from a2p_engine.types import SAMPLE_RATE_HZ as RATE_HZ
from a2p_engine.types import Samples
from clients.client import CaptionClient
from clients.events import Final, Partial
from streaming.evaluation.live import percentiles

CHUNK_SAMPLES = RATE_HZ // 10
PATIENCE_S = 60.0  # for a peer that is behind when the audio ends


class Utterance(NamedTuple):
    """A recording's place in a track, in seconds, and its words."""

    start_s: float
    end_s: float
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """Recordings in a row, with silence between and behind them."""

    samples: Samples
    utterances: tuple[Utterance, ...]

    @property
    def duration_s(self) -> float:
        """Its length."""
        return len(self.samples) / RATE_HZ


class Shown(NamedTuple):
    """What a viewer sees from a moment of the audio clock on."""

    clock_s: float
    stays: str
    may_change: str


Watch = Callable[[str, Track, float], Coroutine[Any, Any, list[Shown]]]


def track_of(recordings: Sequence[Recording], pause_s: float) -> Track:
    """Lay recordings in a row.

    Raises:
        InputError: a recording has no reference text.
    """
    parts: list[Samples] = []
    utterances: list[Utterance] = []
    gap, at = np.zeros(round(pause_s * RATE_HZ), np.float32), 0
    for recording in recordings:
        if recording.text is None:
            raise InputError(f"recording {recording.id} has no text to compare with")
        samples = read_audio(recording.audio)
        spoken = tuple(normalised(recording.text))
        utterances.append(Utterance(at / RATE_HZ, (at + len(samples)) / RATE_HZ, spoken))
        parts += [samples, gap]
        at += len(samples) + len(gap)
    return Track(np.concatenate(parts), tuple(utterances))


def beginning_of(track: Track, seconds: float = 5.0) -> Track:
    """The first seconds of a track, without its utterances."""
    return Track(track.samples[: round(seconds * RATE_HZ)], ())


async def watch_native(url: str, track: Track, pace: float) -> list[Shown]:
    """Speak a track at a server of this project."""
    client = CaptionClient(url, glossary={"terms": []}, options={"stats_interval_ms": 0})
    finals: list[str] = []
    shown: list[Shown] = []
    async with client:
        begin = time.perf_counter()
        async for event in client.caption(_spoken(track, pace)):
            clock_s = (time.perf_counter() - begin) * pace
            if isinstance(event, Final):
                finals.append(event.text)
                shown.append(Shown(clock_s, " ".join(finals), ""))
            elif isinstance(event, Partial):
                shown.append(Shown(clock_s, " ".join([*finals, event.committed]), event.volatile))
    return shown


async def watch_wlk(url: str, track: Track, pace: float) -> list[Shown]:
    """Speak a track at a WhisperLiveKit server (``/asr``, started with ``--pcm-input``)."""
    shown: list[Shown] = []
    async with websockets.connect(url, max_size=None) as socket:
        begin = time.perf_counter()

        async def speak() -> None:
            async for chunk in _spoken(track, pace):
                await socket.send(chunk)
            await socket.send(b"")  # its sign for the end of the audio

        speaking = asyncio.create_task(speak())
        async with asyncio.timeout(track.duration_s / pace + PATIENCE_S):
            async for message in socket:
                state = json.loads(message)
                if state.get("type") == "ready_to_stop":
                    break
                if "lines" in state:
                    lines = " ".join(line.get("text") or "" for line in state["lines"])
                    clock_s = (time.perf_counter() - begin) * pace
                    shown.append(Shown(clock_s, lines, state.get("buffer_transcription") or ""))
        await speaking
    return shown


# How a viewer of each kind of server watches.
WATCHES: dict[str, Watch] = {"a2p": watch_native, "wlk": watch_wlk}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a viewer had of a track.

    Attributes:
        first_s: for each utterance, from its beginning to its first shown word.
        committed_s: for each utterance, from its end until all its words stay.
        wer: word errors per reference word in the last text.
        erasure: words taken back per word of the last text.
        late_s: how long after the end of the audio the last text came.
    """

    first_s: list[float]
    committed_s: list[float]
    wer: float
    erasure: float
    late_s: float

    def summary(self) -> dict[str, Any]:
        """Percentiles and rates."""
        return {
            "first_s": percentiles(self.first_s),
            "committed_s": percentiles(self.committed_s),
            "wer": round(self.wer, 4),
            "normalized_erasure": round(self.erasure, 3),
            "late_s": round(self.late_s, 2),
        }


def judge(track: Track, shown: Sequence[Shown]) -> Figures:
    """Measure what a viewer saw."""
    spoken = [word for utterance in track.utterances for word in utterance.words]
    views = [_View(item) for item in shown]
    last = views[-1].words if views else ()
    steps = align(spoken, last)
    errors = sum(i is None or j is None or spoken[i] != last[j] for i, j in steps)
    first: list[float] = []
    committed: list[float] = []
    said = written = 0
    for utterance in track.utterances:
        said += len(utterance.words)
        before, written = written, _written(steps, said)
        if written == before:
            continue  # nothing of it was ever written; the word errors say so
        appeared = next(view.clock_s for view in views if len(view.words) > before)
        stayed = next((view.clock_s for view in views if view.staying >= written), None)
        first.append(appeared - utterance.start_s)
        committed.append((views[-1].clock_s if stayed is None else stayed) - utterance.end_s)
    return Figures(
        first_s=first,
        committed_s=committed,
        wer=errors / max(1, len(spoken)),
        erasure=_erased(views) / max(1, len(last)),
        late_s=max(0.0, views[-1].clock_s - track.duration_s) if views else 0.0,
    )


class _View:
    """A moment's words, and how many of them stay."""

    def __init__(self, shown: Shown) -> None:
        self.clock_s = shown.clock_s
        self.words = normalised(f"{shown.stays} {shown.may_change}")
        self.staying = len(normalised(shown.stays))


def _written(steps: Sequence[tuple[int | None, int | None]], said: int) -> int:
    """How many written words belong to the first ``said`` spoken ones."""
    count = 0
    for i, j in steps:
        if i is not None and i >= said:
            break
        count += j is not None
    return count


def _erased(views: Sequence[_View]) -> int:
    """Words taken back: of each view, those behind what it has in common with the next one."""
    erased = 0
    for earlier, later in pairwise(views):
        kept = 0
        while kept < min(len(earlier.words), len(later.words)):
            if earlier.words[kept] != later.words[kept]:
                break
            kept += 1
        erased += len(earlier.words) - kept
    return erased


async def _spoken(track: Track, pace: float) -> AsyncIterator[bytes]:
    """A track as it would come from a microphone, by an absolute clock."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for at in range(0, len(track.samples), CHUNK_SAMPLES):
        chunk = track.samples[at : at + CHUNK_SAMPLES]
        await asyncio.sleep(max(0.0, begin + (at + len(chunk)) / RATE_HZ / pace - loop.time()))
        yield (chunk * 32767).astype("<i2").tobytes()
