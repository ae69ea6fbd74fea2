"""Timing of calls that may leave work queued on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

WARM_UPS = 3
LEAST_RUNS = 2
LIMIT_S = 20.0  # of one measurement; what is slow gets fewer runs


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long the runs of one measurement took.

    Attributes:
        p50_ms: median of the wall time from the call until its results are there.
        p95_ms: 95th percentile of the same.
        max_ms: the slowest run.
        device_p50_ms: median time between two events around the work on the GPU; on CPU the wall
            time.
        runs: how many were measured, after a warm-up.
    """

    p50_ms: float
    p95_ms: float
    max_ms: float
    device_p50_ms: float
    runs: int

    @classmethod
    def of(cls, runs: Sequence[tuple[float, float]]) -> Timing:
        """Sum up (wall ms, device ms) of at least one run."""
        wall, device = np.array(runs).T
        return cls(
            p50_ms=float(np.percentile(wall, 50)),
            p95_ms=float(np.percentile(wall, 95)),
            max_ms=float(wall.max()),
            device_p50_ms=float(np.percentile(device, 50)),
            runs=len(runs),
        )


class Clock:
    """Times calls on one device."""

    def __init__(self, device: torch.device, limit_s: float = LIMIT_S) -> None:
        """Spend about so long on one measurement at most."""
        self.device = device
        self._limit_s = limit_s

    def once(self, work: Callable[[], object]) -> tuple[float, float]:
        """Milliseconds of one call: wall time, time on the device."""
        if self.device.type != "cuda":
            begin = time.perf_counter()
            work()
            wall_ms = 1e3 * (time.perf_counter() - begin)
            return wall_ms, wall_ms
        first = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        last = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(self.device)
        begin = time.perf_counter()
        first.record()
        work()
        last.record()
        torch.cuda.synchronize(self.device)
        return 1e3 * (time.perf_counter() - begin), first.elapsed_time(last)

    def time(
        self,
        work: Callable[[int], object],
        repeat: int,
        *,
        after: Callable[[], object] = lambda: None,
        warm_ups: int = WARM_UPS,
    ) -> Timing:
        """Time work(number) for growing numbers, so that inputs can change from run to run.

        Args:
            work: what is timed.
            repeat: runs, fewer where they take longer than the clock's limit.
            after: called after each run, not timed.
            warm_ups: runs before, not counted.
        """
        self._runs(work, after, 0, warm_ups, self._limit_s / 4, 1)
        return Timing.of(self._runs(work, after, warm_ups, repeat, self._limit_s, LEAST_RUNS))

    def _runs(
        self,
        work: Callable[[int], object],
        after: Callable[[], object],
        first: int,
        count: int,
        limit_s: float,
        least: int,
    ) -> list[tuple[float, float]]:
        end = time.perf_counter() + limit_s
        runs: list[tuple[float, float]] = []
        while len(runs) < count and (len(runs) < least or time.perf_counter() < end):
            runs.append(self.once(partial(work, first + len(runs))))
            after()
        return runs
