"""Levels of load: what they sum up, when they end, how memory growth is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2p_engine.errors import InputError
from streaming.bench.idle import idle
from streaming.bench.levels import Level, Load, capacity, growth, level, rise, soak
from streaming.bench.process import ProcessMeter
from streaming.bench.talker import Outcome
from streaming.evaluation.live import Record
from tests.streaming.conftest import Serving
from tests.streaming.signals import pcm, tone

SPEECH = [np.frombuffer(pcm(tone(1.5)), np.int16)]
QUICK = Load(activity=0.5, seconds=3.0, pace=6.0, vad="energy")


def outcome(**values: Any) -> Outcome:
    """One client that was served well, but for what is given."""
    record = Record(id="", audio_s=0, reference=None, final_s=[0.6, 0.8], first_partial_s=[0.5])
    record.erased_words = 1
    served = Outcome(record=record, speech_s=10.0, words=20, partials=15, finals=2)
    return replace(served, **values)


def test_a_level_sums_up_its_clients() -> None:
    """Rates are over all speech and words, latencies over all segments."""
    found = Level.of([outcome(), outcome(speech_s=5.0, lost=1, repeated=2)], cpu_percent=50.0)
    assert (found.sessions, found.speech_s, found.finals) == (2, 15.0, 4)
    assert (found.lost, found.repeated, found.cpu_percent) == (1, 2, 50.0)
    assert found.partials_per_s == 2.0 and found.normalized_erasure == 0.05
    assert found.final_s is not None and found.final_s["n"] == 4


@pytest.mark.parametrize(
    "worse", [{"lost": 1}, {"refused": True}, {"failure": "gone"}, {"record": None}]
)
def test_nobody_may_be_lost_or_left_out(worse: dict[str, Any]) -> None:
    """A level with all finals in time does not count if anybody had none."""
    if "record" in worse:
        worse = {"record": Record(id="", audio_s=0, reference=None, final_s=[9.0])}
    assert Level.of([outcome()]).within(2.0)
    assert not Level.of([outcome(), outcome(**worse)]).within(2.0)


def test_capacity_is_the_last_level_in_time() -> None:
    """And 0 if there was none."""
    fine, late = Level.of([outcome()]), Level.of([outcome(), outcome(lost=1)])
    assert capacity([fine, late], 2.0) == 1
    assert capacity([late], 2.0) == 0


async def test_levels_rise_until_one_breaks_the_bound(serving: Serving) -> None:
    """That one is told as well; the endpoint alone breaks a bound of a tenth of a second."""
    async with serving() as server:
        found = [each async for each in rise(server.ws_url, SPEECH, (1, 3, 5), QUICK, 0.1)]
        assert [each.sessions for each in found] == [1]
        both = [each async for each in rise(server.ws_url, SPEECH, (1, 2), QUICK, 60.0)]
    assert [each.sessions for each in both] == [1, 2]
    assert both[1].finals > both[0].finals
    assert all(each.lost == each.repeated == each.refused == 0 for each in both)
    assert both[0].cpu_percent is None


async def test_the_server_is_metered(serving: Serving) -> None:
    """CPU and memory of its process, here the test's own."""
    meter = ProcessMeter(os.getpid())
    async with serving() as server:
        found = await level(server.ws_url, SPEECH, 1, QUICK, meter)
    assert found.cpu_percent is not None and 0 < found.cpu_percent < 1000
    assert found.resident_bytes is not None and found.resident_bytes > 2**20


def test_cpu_time_is_that_since_the_last_look() -> None:
    """Work is seen, and seen once."""
    meter = ProcessMeter(os.getpid())
    spent_s = os.times()
    while os.times().user - spent_s.user < 0.2:
        sum(range(1000))
    assert meter.cpu_percent() > 5
    assert meter.cpu_percent() < 1e6


def test_growth_leaves_out_the_first_minutes() -> None:
    """Medians of minutes, so that one sample says nothing."""
    samples = [100] * 30 + [200] * 6 + [205] * 50 + [210] * 6
    assert growth(samples) == 5.0
    assert growth([100] * 6 + [110] * 6) == 10.0
    assert growth([100, 200]) == 0.0


async def test_a_soak_tells_memory_and_losses(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled while clients speak."""
    monkeypatch.setattr("streaming.bench.levels.SAMPLE_EVERY_S", 0.02)
    async with serving() as server:
        long = await soak(server.ws_url, SPEECH, 2, QUICK, ProcessMeter(os.getpid()))
    assert len(long.resident_bytes) > 3 and min(long.resident_bytes) > 2**20
    assert (long.level.lost, long.level.repeated) == (0, 0)


async def test_idle_clients_are_all_connected(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state is measured with all of them; sending costs more than not sending."""
    monkeypatch.setattr("streaming.bench.idle.SETTLE_S", 0.0)
    async with serving(max_sessions=5, admission="fixed") as server:
        found = await idle(server.ws_url, 5, 0.3, ProcessMeter(os.getpid()))
    assert found.clients == 5
    assert min(found.empty, found.silent, found.muted, found.room) >= 0


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    """Also where a level has no finals or no CPU; a bad path is named."""
    from streaming.bench import picture

    empty = Level.of([Outcome(refused=True)])
    levels = [Level.of([outcome()], cpu_percent=10.0), replace(empty, sessions=2)]
    picture.draw(levels, 2.0, "title", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cannot write"):
        picture.draw(levels, 2.0, "title", tmp_path / "missing" / "a.png")
