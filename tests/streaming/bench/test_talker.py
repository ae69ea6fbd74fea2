"""One client of the benchmark: what it says, when, and what it counts."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from streaming.bench.talker import CHUNK_SAMPLES, RATE_HZ, Talk, paced, talk
from streaming.evaluation.live import TRAIL_S
from tests.streaming.conftest import Serving
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import pcm, tone

SPEECH = np.frombuffer(pcm(tone(1.5)), np.int16)


def said(talk: Talk, duration_s: float) -> np.ndarray:
    """All it sends in that time."""
    chunks = list(talk.chunks(duration_s))
    assert {len(chunk) for chunk in chunks} == {CHUNK_SAMPLES}
    return np.concatenate(chunks)


@pytest.mark.parametrize("activity", [0.2, 0.4, 0.6])
def test_the_share_of_speech_is_as_asked(activity: float) -> None:
    """On average, as pauses are drawn by chance."""
    plan = Talk([np.full(2 * RATE_HZ, 1000, np.int16)], activity, seed=1)
    audio = said(plan, 1000)
    assert np.mean(audio == 1000) == pytest.approx(activity, rel=0.1)


def test_spans_say_where_recordings_are() -> None:
    """Within a chunk; the talk ends with a pause, so that its last final comes in good order."""
    plan = Talk([np.full(RATE_HZ, 1000, np.int16)], 0.4, seed=2)
    audio = said(plan, 20)
    for begin_s, end_s in plan.spans:
        middle = audio[round((begin_s + 0.01) * RATE_HZ) : round((end_s - 0.01) * RATE_HZ)]
        assert (middle == 1000).all()
    assert sum(audio == 1000) == len(plan.spans) * RATE_HZ
    assert len(audio) / RATE_HZ - plan.spans[-1].end_s == pytest.approx(TRAIL_S, abs=0.1)


def test_pauses_are_a_quiet_room() -> None:
    """Noise at -66 dBFS, as no microphone gives zeros; another seed, other pauses."""
    one, same, other = (said(Talk([SPEECH], 0.3, seed), 10) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one[:8000], other[:8000])
    pause = Talk([], 0.3, seed=1).silence(1.0) / 32768
    assert 20 * np.log10(np.sqrt(np.mean(pause**2))) == pytest.approx(-66, abs=0.5)


async def test_chunks_come_when_they_would_have_been_recorded() -> None:
    """Not before their last sample; a late start does not make the clock drift."""
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    chunks = itertools.repeat(np.zeros(CHUNK_SAMPLES, np.int16), 5)
    times_s = [loop.time() - begin_s async for _ in paced(chunks, pace=4.0)]
    assert all(at_s >= 0.025 * (n + 1) - 1e-3 for n, at_s in enumerate(times_s))
    assert times_s[-1] < 1


async def test_what_a_client_counts(serving: Serving, engine: FakeEngine) -> None:
    """Every recording gets its final, with latencies on the audio clock."""
    async with serving() as server:
        outcome = await talk(
            server.ws_url, Talk([SPEECH], 0.5, seed=1), 6.0, pace=4.0, vad="energy"
        )
    assert (outcome.lost, outcome.repeated, outcome.refused, outcome.failure) == (0, 0, False, "")
    assert outcome.finals >= 2
    assert outcome.speech_s == pytest.approx(1.5 * outcome.finals)
    assert len(outcome.record.final_s) == outcome.finals
    assert outcome.partials > 0 and outcome.words > 0
    # The endpoint alone takes half a second.
    assert all(0.4 < wait_s < 5 for wait_s in outcome.record.final_s)


async def test_speech_without_a_final_is_lost(serving: Serving, engine: FakeEngine) -> None:
    """As when the engine fails on it."""

    def fail(_: object) -> None:
        raise RuntimeError("broken")

    engine.hook = fail
    async with serving() as server:
        outcome = await talk(
            server.ws_url, Talk([SPEECH], 0.5, seed=1), 2.0, pace=4.0, vad="energy"
        )
    assert outcome.lost == round(outcome.speech_s / 1.5) > 0
    assert outcome.finals == 0


async def test_a_full_server_refuses(serving: Serving) -> None:
    """Which is counted and costs nothing else."""
    async with serving(max_sessions=1) as server:
        first, second = await asyncio.gather(
            *(
                talk(server.ws_url, Talk([SPEECH], 0.5, seed), 2.0, pace=4.0, vad="energy")
                for seed in (1, 2)
            )
        )
    assert sorted([first.refused, second.refused]) == [False, True]
    refused = first if first.refused else second
    assert (refused.lost, refused.speech_s) == (0, 0.0)
