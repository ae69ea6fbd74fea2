"""Who gets the engine next: a pure policy, without clock and I/O; ``EngineRoom`` is its shell.

1. A session waits for one step at a time, so what waits is bounded by the number of sessions. A
   waiting partial is no backlog: its step takes all audio that came meanwhile, so under load
   partials come less often and cover more; none is decoded that a newer one would replace.
2. Finals go first, then pauses (a final, unless the voice comes back), then partials, then uploads.
   What is ``STARVED_S`` late counts as the next better kind, up to a pause.
3. Within a rank the earliest deadline goes first (Liu and Layland 1973). Deadlines are on the
   session's audio clock: a recording that is sent faster than it plays is ahead of time and yields
   to people who speak now, but loses nothing while nobody else waits.
4. Where there are several places partials never take all of them, so that a final finds one free,
   and an upload never takes the last free one.
5. At the high mark of finals waiting or running everything else stops for all sessions, until
   they are down to the low mark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from a2p_engine.types import SAMPLE_RATE_HZ

STARVED_S = 3.0
UPLOAD_PATIENCE_S = 10.0  # after which an upload has a deadline like a partial's


class Kind(IntEnum):
    """What a step is for; a smaller one goes first."""

    FINAL = 0
    PAUSE = 1
    PARTIAL = 2
    UPLOAD = 3


class Due(NamedTuple):
    """What is waited for, and when it should be there."""

    kind: Kind
    deadline_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Finals waiting or running at which all else stops, and at which it goes on.

    Raises:
        ValueError: the low mark is not below the high one.
    """

    high: int
    low: int

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"low mark {self.low} must be from 0 to below high mark {self.high}")

    @classmethod
    def of(cls, workers: int) -> Marks:
        """Three rounds of finals stop partials, half a round left lets them go on."""
        return cls(high=3 * workers, low=workers // 2)


class Ask:
    """A session's wish for a step; what is due may change while it waits."""

    __slots__ = ("due", "kind")

    def __init__(self, due: Callable[[], Due]) -> None:
        self.due = due
        self.kind: Kind | None = None  # of the step, once it runs


class Schedule:
    """Places for steps, and who waits for one.

    Attributes:
        held: whether everything but finals is stopped.
    """

    def __init__(self, workers: int, marks: Marks | None = None) -> None:
        """Begin with ``workers`` free places."""
        self._workers = workers
        self._marks = marks or Marks.of(workers)
        self._waiting: dict[Ask, None] = {}  # in the order of asking
        self._running: set[Ask] = set()
        self.held = False

    @property
    def waiting(self) -> int:
        """Sessions that wait for a place."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Places that are taken."""
        return len(self._running)

    def ask(self, due: Callable[[], Due]) -> Ask:
        """Wait for a place; ``due`` is asked whenever one can be given away."""
        ask = Ask(due)
        self._waiting[ask] = None
        return ask

    def leave(self, ask: Ask) -> None:
        """Give a place back, or wait no longer."""
        self._waiting.pop(ask, None)
        self._running.discard(ask)

    def next(self, now_s: float) -> Ask | None:
        """Give a place to whoever is next; None if nobody may have one now."""
        if not self._waiting or self.running >= self._workers:
            return None
        dues = {ask: _promoted(ask.due(), now_s) for ask in self._waiting}
        self._mark([due.kind for due in dues.values()])
        allowed = [ask for ask, due in dues.items() if self._may_run(due.kind)]
        if not allowed:
            return None
        chosen = min(allowed, key=dues.__getitem__)
        del self._waiting[chosen]
        chosen.kind = dues[chosen].kind
        self._running.add(chosen)
        return chosen

    def _mark(self, waiting: list[Kind]) -> None:
        finals = waiting.count(Kind.FINAL) + self._count(Kind.FINAL)
        self.held = finals > self._marks.low if self.held else finals >= self._marks.high

    def _may_run(self, kind: Kind) -> bool:
        if kind is Kind.FINAL:
            return True
        if self.held or self._workers == 1:
            return not self.held
        if kind is Kind.UPLOAD:
            return self.running < self._workers - 1
        return kind is Kind.PAUSE or self._count(Kind.PARTIAL) < self._workers - 1

    def _count(self, kind: Kind) -> int:
        return sum(ask.kind is kind for ask in self._running)


def _promoted(due: Due, now_s: float) -> Due:
    """What has waited for too long counts for more, but never for a final."""
    if due.kind > Kind.PAUSE and now_s > due.deadline_s + STARVED_S:
        return due._replace(kind=Kind(due.kind - 1))
    return due


class AudioClock:
    """When a session's samples were to be heard, in wall time: a virtual clock (Zhang 1990).

    Each sample takes its time after the one before, and none comes before it has arrived: audio
    sent in real time is due as it comes, audio sent faster lies in the future.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._end_s = 0.0

    def advance(self, samples: int, now_s: float) -> None:
        """So many samples at 16 kHz have arrived."""
        self._samples += samples
        self._end_s = max(self._end_s + samples / SAMPLE_RATE_HZ, now_s)

    def time_s(self, sample: int) -> float:
        """When a sample was, or will be, to be heard."""
        return self._end_s + (sample - self._samples) / SAMPLE_RATE_HZ
