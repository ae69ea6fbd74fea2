"""Rising numbers of sessions against one server, until captions come too late."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streaming.bench.process import ProcessMeter
from streaming.bench.talker import Outcome, Pcm, Talk, talk
from streaming.evaluation.live import percentiles
from streaming.vad import DEFAULT_DETECTOR

SAMPLE_EVERY_S = 10.0
SETTLING_S = 300.0  # memory grows while caches fill and the allocator finds its size
RESIDENT_SAMPLES = 6  # a minute's, whose median counts

Percentiles = dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What every client does.

    Attributes:
        activity: share of the time that is speech.
        seconds: how long it speaks and pauses; what is begun then is said to its end.
        pace: 1 is real time.
        glossary: of the server, by name; None for none.
        seed: of order and pauses.
        vad: the voice detector.
    """

    activity: float = 0.4
    seconds: float = 60.0
    pace: float = 1.0
    glossary: str | None = None
    seed: int = 1
    vad: str = DEFAULT_DETECTOR


@dataclass(frozen=True, kw_only=True)
class Level:
    """What clients experienced at one number of sessions; all times in seconds.

    Attributes:
        sessions: that were wanted.
        refused: of them, by a server that was full.
        failed: sessions that ended early, and why.
        speech_s: that was sent.
        first_partial_s: from the beginning of speech to its first words.
        final_s: from the end of speech to the final.
        lag_s: of each shown text behind the audio.
        partials_per_s: per second of speech.
        normalized_erasure: words taken back over words in finals.
        finals: that came.
        lost: recordings without a final, and shown segments without one.
        repeated: finals over audio that has one already.
        cpu_percent: of one core, the server's; None if it is not on this machine.
        resident_bytes: of the server, at the end.
    """

    sessions: int
    refused: int
    failed: tuple[str, ...]
    speech_s: float
    first_partial_s: Percentiles
    final_s: Percentiles
    lag_s: Percentiles
    partials_per_s: float | None
    normalized_erasure: float | None
    finals: int
    lost: int
    repeated: int
    cpu_percent: float | None = None
    resident_bytes: int | None = None

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], **use: Any) -> Level:
        """Sum up."""
        records = [outcome.record for outcome in outcomes]
        speech_s = sum(outcome.speech_s for outcome in outcomes)
        words = sum(outcome.words for outcome in outcomes)
        partials = sum(outcome.partials for outcome in outcomes)
        erased = sum(record.erased_words for record in records)
        return cls(
            sessions=len(outcomes),
            refused=sum(outcome.refused for outcome in outcomes),
            failed=tuple(outcome.failure for outcome in outcomes if outcome.failure),
            speech_s=round(speech_s, 1),
            first_partial_s=percentiles(x for record in records for x in record.first_partial_s),
            final_s=percentiles(x for record in records for x in record.final_s),
            lag_s=percentiles(x for record in records for x in record.lag_s),
            partials_per_s=round(partials / speech_s, 2) if speech_s else None,
            normalized_erasure=round(erased / words, 3) if words else None,
            finals=sum(outcome.finals for outcome in outcomes),
            lost=sum(outcome.lost for outcome in outcomes),
            repeated=sum(outcome.repeated for outcome in outcomes),
            **use,
        )

    def within(self, bound_s: float) -> bool:
        """Whether everybody was served, nothing was lost and finals came in time."""
        served = not (self.refused or self.failed or self.lost)
        return served and self.final_s is not None and self.final_s["p95"] <= bound_s


async def level(
    url: str, recordings: Sequence[Pcm], sessions: int, load: Load, meter: ProcessMeter | None
) -> Level:
    """So many clients at the same time."""
    if meter is not None:
        meter.cpu_percent()
    outcomes = await asyncio.gather(
        *(
            talk(
                url,
                Talk(recordings, load.activity, 1000 * load.seed + number),
                load.seconds,
                pace=load.pace,
                glossary=load.glossary,
                vad=load.vad,
            )
            for number in range(sessions)
        )
    )
    if meter is None:
        return Level.of(outcomes)
    cpu, resident = round(meter.cpu_percent(), 1), meter.resident_bytes()
    return Level.of(outcomes, cpu_percent=cpu, resident_bytes=resident)


async def rise(
    url: str,
    recordings: Sequence[Pcm],
    sessions: Iterable[int],
    load: Load,
    bound_s: float,
    meter: ProcessMeter | None = None,
) -> AsyncIterator[Level]:
    """Level after level, up to the first that is not within the bound."""
    for number in sessions:
        found = await level(url, recordings, number, load, meter)
        yield found
        if not found.within(bound_s):
            return


def capacity(levels: Iterable[Level], bound_s: float) -> int:
    """The most sessions that were served within the bound; 0 if it was none."""
    return max((found.sessions for found in levels if found.within(bound_s)), default=0)


@dataclass(frozen=True, kw_only=True)
class Soak:
    """A long run.

    Attributes:
        level: what the clients experienced.
        resident_bytes: memory of the server every ``SAMPLE_EVERY_S``.
        growth_percent: from the sixth minute, or the first where it was shorter, to the last.
    """

    level: Level
    resident_bytes: tuple[int, ...]
    growth_percent: float


async def soak(
    url: str, recordings: Sequence[Pcm], sessions: int, load: Load, meter: ProcessMeter
) -> Soak:
    """Watch the server's memory while clients speak for a long time."""
    samples: list[int] = []

    async def watch() -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            samples.append(meter.resident_bytes())

    watching = asyncio.create_task(watch())
    try:
        found = await level(url, recordings, sessions, load, meter)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return Soak(level=found, resident_bytes=tuple(samples), growth_percent=growth(samples))


def growth(resident_bytes: Sequence[int]) -> float:
    """Percent between the medians of two minutes; 0 when there was no time for two."""
    settled = round(SETTLING_S / SAMPLE_EVERY_S)
    if len(resident_bytes) < settled + 2 * RESIDENT_SAMPLES:
        settled = 0
    if len(resident_bytes) < 2 * RESIDENT_SAMPLES:
        return 0.0
    first = statistics.median(resident_bytes[settled : settled + RESIDENT_SAMPLES])
    last = statistics.median(resident_bytes[-RESIDENT_SAMPLES:])
    return round(100 * (last - first) / first, 2)
