"""One client of many: speech with pauses in between, sent as a microphone would, and measured."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clients.client import CaptionClient
from clients.errors import ClientError, ServerFull
from clients.events import Final
from clients.retry import RetryPolicy
from streaming.evaluation.live import TRAIL_S, Account, Record
from streaming.vad import DEFAULT_DETECTOR

Pcm = npt.NDArray[np.int16]

RATE_HZ = 16_000
CHUNK_SAMPLES = RATE_HZ // 10
ROOM_NOISE = 16.0  # standard deviation in units of the last bit: -66 dBFS, a quiet room
LEAST_PAUSE_S = 1.0  # ends a segment
REPEATED_S = 0.05  # two finals share less, as one frame of the detector may belong to both
NO_RETRY = RetryPolicy(attempts=0)


class Span(NamedTuple):
    """Where a recording lies in the audio of a session, in seconds."""

    begin_s: float
    end_s: float


class Talk:
    """Recordings in random order, each followed by a pause; the same for the same seed.

    Attributes:
        spans: recordings given out so far.
    """

    def __init__(self, recordings: Sequence[Pcm], activity: float, seed: int) -> None:
        """Plan a talk.

        Args:
            recordings: 16 kHz mono.
            activity: share of the time that recordings take, in (0, 1].
            seed: chooses order, pauses and noise.
        """
        self.spans: list[Span] = []
        self._recordings = recordings
        self._pause_share = (1 - activity) / activity
        self._random = random.Random(seed)
        self._noise = np.random.default_rng(seed)

    def chunks(self, duration_s: float) -> Iterator[Pcm]:
        """Pieces of a tenth of a second; it ends with a pause, not in mid-sentence."""
        rest = np.zeros(0, np.int16)
        for piece in self._pieces(duration_s):
            rest = np.concatenate([rest, piece])
            whole = len(rest) - len(rest) % CHUNK_SAMPLES
            yield from np.split(rest[:whole], range(CHUNK_SAMPLES, whole, CHUNK_SAMPLES))
            rest = rest[whole:]

    def _pieces(self, duration_s: float) -> Iterator[Pcm]:
        at_s = 0.0
        first = True  # clients do not all begin to speak at once
        while at_s < duration_s or not self.spans:
            recording = self._random.choice(self._recordings)
            length_s = len(recording) / RATE_HZ
            pause_s = self._pause_s(length_s) * (self._random.random() if first else 1)
            yield self.silence(pause_s)
            yield recording
            self.spans.append(Span(at_s + pause_s, at_s + pause_s + length_s))
            at_s += pause_s + length_s
            first = False
        yield self.silence(TRAIL_S)

    def _pause_s(self, length_s: float) -> float:
        """Half to one and a half times what the activity asks for, on average that."""
        return max(LEAST_PAUSE_S, length_s * self._pause_share * (0.5 + self._random.random()))

    def silence(self, duration_s: float) -> Pcm:
        """What a microphone gives in a quiet room."""
        samples = round(duration_s * RATE_HZ)
        return np.rint(ROOM_NOISE * self._noise.standard_normal(samples)).astype(np.int16)


@dataclass(kw_only=True)
class Outcome:
    """What one client experienced.

    Attributes:
        record: latencies and lags.
        speech_s: recordings that were sent.
        words: in its finals.
        partials: it was shown.
        finals: it was shown.
        lost: recordings without any final, and segments that were shown but never finished.
        repeated: finals that begin before the one before has ended.
        refused: whether the server was full.
        failure: what ended it early, if anything did.
    """

    record: Record = field(default_factory=lambda: Record(id="", audio_s=0.0, reference=None))
    speech_s: float = 0.0
    words: int = 0
    partials: int = 0
    finals: int = 0
    lost: int = 0
    repeated: int = 0
    refused: bool = False
    failure: str = ""


async def talk(
    url: str,
    plan: Talk,
    duration_s: float,
    *,
    pace: float = 1.0,
    glossary: str | None = None,
    vad: str = DEFAULT_DETECTOR,
) -> Outcome:
    """Be a client for a while."""
    outcome = Outcome()
    account = Account(outcome.record)
    options = {"stats_interval_ms": 0, "vad": vad}
    client = CaptionClient(url, glossary=glossary or [], options=options, retry=NO_RETRY)
    try:
        async with client:
            begin_s = asyncio.get_running_loop().time()
            async for event in client.caption(paced(plan.chunks(duration_s), pace)):
                clock_s = (asyncio.get_running_loop().time() - begin_s) * pace
                account.take(clock_s, event)
    except ServerFull:
        outcome.refused = True
    except ClientError as error:
        outcome.failure = str(error)
    _sum_up(outcome, account, plan.spans)
    return outcome


async def paced(chunks: Iterator[Pcm], pace: float) -> AsyncIterator[bytes]:
    """Each chunk when its last sample would have been recorded; the clock does not drift."""
    now_s: Callable[[], float] = asyncio.get_running_loop().time
    begin_s, sent = now_s(), 0
    for chunk in chunks:
        sent += len(chunk)
        await asyncio.sleep(begin_s + sent / RATE_HZ / pace - now_s())
        yield chunk.tobytes()


def _sum_up(outcome: Outcome, account: Account, spans: Sequence[Span]) -> None:
    finals = account.finals
    outcome.finals = len(finals)
    outcome.partials = account.shown - len(finals)
    outcome.words = len(account.text.split())
    if outcome.refused:
        return
    outcome.speech_s = sum(span.end_s - span.begin_s for span in spans)
    unheard = [span for span in spans if not any(_meet(span, final) for final in finals)]
    outcome.lost = len(unheard) + account.unfinished
    outcome.repeated = sum(
        later.start_s < earlier.end_s - REPEATED_S for earlier, later in itertools.pairwise(finals)
    )


def _meet(span: Span, final: Final) -> bool:
    return bool(final.text) and final.start_s < span.end_s and span.begin_s < final.end_s
