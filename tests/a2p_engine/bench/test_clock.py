"""Timing of calls on the CPU."""

from __future__ import annotations

import time

import torch

from a2p_engine.bench.clock import WARM_UPS, Clock, Timing

CPU = torch.device("cpu")


def test_percentiles() -> None:
    """Of the wall times; the device has its own median."""
    timing = Timing.of([(float(n), n / 2) for n in range(1, 102)])
    assert timing.p50_ms == 51
    assert timing.p95_ms == 96
    assert timing.max_ms == 101
    assert timing.device_p50_ms == 25.5
    assert timing.runs == 101


def test_milliseconds() -> None:
    """A call that sleeps takes as long as it sleeps."""
    wall_ms, device_ms = Clock(CPU).once(lambda: time.sleep(0.02))
    assert wall_ms == device_ms
    assert 20 <= wall_ms < 2000


def test_every_run_gets_its_own_number() -> None:
    """Warm-ups come first and do not count; tidying up follows each run."""
    calls: list[object] = []
    timing = Clock(CPU).time(calls.append, 4, after=lambda: calls.append("after"))
    assert timing.runs == 4
    assert calls[::2] == list(range(WARM_UPS + 4))
    assert calls[1::2] == ["after"] * (WARM_UPS + 4)


def test_slow_work_gets_fewer_runs() -> None:
    """But one warm-up and two runs at least."""
    calls: list[int] = []

    def work(number: int) -> None:
        calls.append(number)
        time.sleep(0.02)

    assert Clock(CPU, limit_s=0.001).time(work, 50).runs == 2
    assert len(calls) == 3


def test_tidying_up_is_not_timed() -> None:
    """What comes after a run may take its time."""
    timing = Clock(CPU).time(lambda _: None, 3, after=lambda: time.sleep(0.02))
    assert timing.p50_ms < 20
    assert timing.runs == 3
