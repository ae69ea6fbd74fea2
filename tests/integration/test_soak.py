"""A short soak of a real server; `a2p bench serve --soak 60` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from a2p_engine.audio import read_audio
from streaming.bench import levels
from streaming.bench.process import ProcessMeter
from streaming.cli.local_server import local_process

DATA = Path(__file__).parents[2] / "examples" / "data"
SECONDS = 45.0
# Of a busy machine; what an hour on a quieter one takes is in docs/capacity.md.
MOST_GROWTH_PERCENT = 20.0
MOST_LAG_S = 10.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_and_lag_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two speakers with a glossary: nothing is lost or comes twice, and memory finds its size."""
    monkeypatch.setattr(levels, "SAMPLE_EVERY_S", 1.0)
    monkeypatch.setattr(levels, "SETTLING_S", 25.0)
    glossary = DATA / "glossary_10k.txt"
    samples = (read_audio(DATA / "ward_round.flac") * 32767).astype(np.int16)
    speech = np.split(samples, [5 * 16_000, 10 * 16_000])
    load = levels.Load(activity=0.5, seconds=SECONDS, glossary="terms")
    with local_process(["--glossary", f"terms={glossary}"]) as local:
        meter = ProcessMeter(local.pid)
        long = asyncio.run(levels.soak(local.url, speech, 2, load, meter))
    assert (long.level.lost, long.level.repeated, long.level.refused) == (0, 0, 0)
    assert long.level.finals >= 4
    assert long.level.lag_s is not None and long.level.lag_s["p99"] < MOST_LAG_S
    assert len(long.resident_bytes) >= SECONDS - 5
    assert long.growth_percent < MOST_GROWTH_PERCENT
