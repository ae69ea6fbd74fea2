"""How many sessions this machine can take: measured while it works, without clock and I/O.

Only what must be done counts as load, the steps of finals and pauses; partials take what is left.
A new session is refused when finals would come late or do already:

- the share of all workers' time that finals and pauses take, that of the new session and of others
  as young included, would pass ``Bounds.high_load``. Queueing makes waits grow without bound as the
  share nears 1; at 0.7 a final waits about one step for its turn;
- the 95th percentile of the last minute's final latencies has passed ``Bounds.final_p95_s``.

Once refusing, it goes on until both are well below (``low_load``, ``low_share``), so that one
session that ends does not let two in. The first session is never refused.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streaming.scheduling.schedule import Kind

WINDOW_S = 60.0  # of final latencies
MAX_FINALS = 4096  # remembered of them
LEAST_FINALS = 8  # a percentile of fewer says nothing
MEMORY_S = 30.0  # time constant of the load
YOUNG_S = 30.0  # how long a session counts with what sessions usually need, not what it uses
ACTIVITY = 0.4  # share of the time that is speech, as in meetings
COST_MEMORY_S = 600.0  # speech whose cost is remembered
# What a second of speech costs as long as nothing was measured, and how much speech that outweighs.
PRIOR_COST, PRIOR_S = 0.25, 10.0
MAX_RETRY_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """When new sessions are refused, and from when on they are admitted again.

    Attributes:
        final_p95_s: longest 95th percentile of final latencies after the end of speech.
        low_share: of it, below which sessions are admitted again.
        high_load: largest share of the workers' time that finals and pauses may need.
        low_load: share below which sessions are admitted again.
    """

    final_p95_s: float = 2.0
    low_share: float = 0.75
    high_load: float = 0.7
    low_load: float = 0.55


class Refusal(NamedTuple):
    """Why no session is admitted, in words for its client, and when to try again."""

    reason: str
    retry_after_s: float


class Capacity:
    """Running estimates of cost, load and latency, and what follows from them.

    Times are in seconds of any clock that never goes back.
    """

    def __init__(self, workers: int, bounds: Bounds | None = None, now_s: float = 0.0) -> None:
        """Nothing is measured yet; ``workers`` steps run at the same time."""
        self._workers = workers
        self._bounds = bounds or Bounds()
        self._work = Decaying(MEMORY_S, now_s)
        self._cost_work, self._cost_speech = PRIOR_COST * PRIOR_S, PRIOR_S
        self._finals: deque[tuple[float, float]] = deque(maxlen=MAX_FINALS)  # (time, latency)
        self._young: deque[float] = deque()  # when sessions were admitted
        self._refusing = False

    # What happens

    def worked(self, kind: Kind, took_s: float, now_s: float) -> None:
        """A step has ended."""
        if kind <= Kind.PAUSE:
            self._work.add(took_s, now_s)
            self._cost_work += took_s

    def finished(self, speech_s: float, latency_s: float, now_s: float) -> None:
        """A segment has its final, so long after the end of its speech on the audio clock."""
        self._cost_speech += speech_s
        if self._cost_speech > COST_MEMORY_S:
            forget = COST_MEMORY_S / self._cost_speech
            self._cost_work, self._cost_speech = self._cost_work * forget, COST_MEMORY_S
        self._finals.append((now_s, latency_s))

    def admit(self, sessions: int, now_s: float) -> Refusal | None:
        """Take one more session beside those that are open; None means it is admitted."""
        refusal = self._refusal(now_s) if sessions else None
        self._refusing = refusal is not None
        if refusal is None:
            self._young.append(now_s)
        return refusal

    # What is

    def refusal(self, sessions: int, now_s: float) -> Refusal | None:
        """What ``admit`` would say, without taking anybody."""
        return self._refusal(now_s) if sessions else None

    @property
    def cost(self) -> float:
        """Seconds of a worker that a second of speech takes for its final."""
        return self._cost_work / self._cost_speech

    def load(self, now_s: float) -> float:
        """Share of the workers' time that finals and pauses take at present."""
        return self._work.rate(now_s) / self._workers

    def final_p95_s(self, now_s: float) -> float | None:
        """The 95th percentile of the last minute's final latencies; None if there were few."""
        while self._finals and self._finals[0][0] < now_s - WINDOW_S:
            self._finals.popleft()
        if len(self._finals) < LEAST_FINALS:
            return None
        return float(np.percentile([latency_s for _, latency_s in self._finals], 95))

    def _refusal(self, now_s: float) -> Refusal | None:
        bounds = self._bounds
        p95_s = self.final_p95_s(now_s)
        limit_s = bounds.final_p95_s * (bounds.low_share if self._refusing else 1)
        if p95_s is not None and p95_s > limit_s:
            left_s = self._finals[0][0] + WINDOW_S - now_s
            return Refusal("captions come late already; try again", _hint_s(left_s))
        load = self._load_with_one_more(now_s)
        if load > (bounds.low_load if self._refusing else bounds.high_load):
            wait_s = MEMORY_S * math.log(max(load / bounds.low_load, 1.0))
            return Refusal(
                "with one more session captions would come late; try again", _hint_s(wait_s)
            )
        return None

    def _load_with_one_more(self, now_s: float) -> float:
        while self._young and self._young[0] < now_s - YOUNG_S:
            self._young.popleft()
        expected = (len(self._young) + 1) * ACTIVITY * self.cost / self._workers
        return self.load(now_s) + expected


class Decaying:
    """An exponentially forgotten sum, as a rate per second."""

    def __init__(self, memory_s: float, now_s: float) -> None:
        """Nothing yet; what is ``memory_s`` old counts for 1/e."""
        self._memory_s = memory_s
        self._began_s = self._at_s = now_s
        self._sum = 0.0

    def add(self, amount: float, now_s: float) -> None:
        """Something happened."""
        self._forget(now_s)
        self._sum += amount

    def rate(self, now_s: float) -> float:
        """How much happens per second; early on, per second since the beginning or one second."""
        self._forget(now_s)
        seen_s = max(now_s - self._began_s, 1.0)
        return self._sum / (self._memory_s * -math.expm1(-seen_s / self._memory_s))

    def _forget(self, now_s: float) -> None:
        self._sum *= math.exp(-max(now_s - self._at_s, 0.0) / self._memory_s)
        self._at_s = max(now_s, self._at_s)


def _hint_s(seconds: float) -> float:
    """When to try again: not at once, and not too late for a place that becomes free by chance."""
    return float(round(min(max(seconds, 1.0), MAX_RETRY_S)))
