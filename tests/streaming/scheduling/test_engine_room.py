"""Places for steps are bounded, go to finals first, and are never lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from streaming.scheduling.engine_room import EngineRoom
from streaming.scheduling.schedule import Due, Kind
from tests.streaming.fake_engine import FakeEngine

LATER_S = float("inf")
SOMETHING = Due(Kind.PARTIAL, LATER_S)


@pytest.fixture
def room() -> Iterator[EngineRoom]:
    """A room with one place."""
    room = EngineRoom(FakeEngine(), workers=1)
    yield room
    room.close()


async def take(room: EngineRoom, name: str, urgent: list[str], order: list[str]) -> None:
    """Hold a place for a moment; for a final as long as the name is listed."""
    async with room.slot(lambda: Due(Kind.FINAL if name in urgent else Kind.PARTIAL, LATER_S)):
        order.append(name)
        await asyncio.sleep(0)


async def test_first_come_first_served(room: EngineRoom) -> None:
    """Without urgency the order is that of asking."""
    order: list[str] = []
    await asyncio.gather(*(take(room, name, [], order) for name in "abcd"))
    assert order == list("abcd")


async def test_who_becomes_urgent_while_waiting_goes_first(room: EngineRoom) -> None:
    """Urgency is looked at when a place is given back, not when it was asked for."""
    order: list[str] = []
    urgent: list[str] = []
    async with room.slot(lambda: SOMETHING):
        waiting = [asyncio.create_task(take(room, name, urgent, order)) for name in "abcd"]
        await asyncio.sleep(0)
        urgent.append("c")
    await asyncio.gather(*waiting)
    assert order == list("cabd")


async def test_a_cancelled_wait_does_not_lose_the_place(room: EngineRoom) -> None:
    """Whether it is cancelled before or in the moment of its turn."""
    order: list[str] = []
    async with room.slot(lambda: SOMETHING):
        early, late, last = (
            asyncio.create_task(take(room, name, [], order)) for name in ("early", "late", "last")
        )
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.sleep(0)
    late.cancel()  # its turn has come, but it has not run yet
    await asyncio.wait_for(last, 1)
    assert order == ["last"]
    await asyncio.gather(early, late, return_exceptions=True)


async def in_background(room: EngineRoom, name: str, order: list[str]) -> None:
    """Do a moment's work that can wait."""
    await room.background(lambda: order.append(name))


async def test_background_work_goes_last(room: EngineRoom) -> None:
    """However long it has waited, live sessions that came later go first."""
    order: list[str] = []
    async with room.slot(lambda: SOMETHING):
        upload = asyncio.create_task(in_background(room, "upload", order))
        await asyncio.sleep(0)
        live = [asyncio.create_task(take(room, name, [], order)) for name in "ab"]
        await asyncio.sleep(0)
    await asyncio.gather(upload, *live)
    assert order == ["a", "b", "upload"]


async def test_one_place_of_several_is_kept_for_live_sessions() -> None:
    """Background work never takes the last place, so that a final need not wait for its end."""
    room = EngineRoom(FakeEngine(), workers=2)
    order: list[str] = []
    done = threading.Event()
    try:
        first = asyncio.create_task(room.background(done.wait))
        second = asyncio.create_task(in_background(room, "second upload", order))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(take(room, "live", [], order), 1)
        assert (order, room.stepping, room.waiting) == (["live"], 1, 1)
        done.set()
        await asyncio.wait_for(asyncio.gather(first, second), 1)
    finally:
        done.set()
        room.close()
    assert (order, room.stepping, room.waiting) == (["live", "second upload"], 0, 0)


async def test_cancelled_background_work_keeps_its_place_until_the_thread_is_done(
    room: EngineRoom,
) -> None:
    """A thread cannot be stopped, and while it runs nobody else may use its place."""
    done = threading.Event()
    work = asyncio.create_task(room.background(done.wait))
    await asyncio.sleep(0.05)
    work.cancel()
    await asyncio.sleep(0.05)
    assert not work.done()
    assert room.stepping == 1
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, 1)
    assert room.stepping == 0


async def test_an_error_of_background_work_reaches_its_caller(room: EngineRoom) -> None:
    """And the place is given back."""
    with pytest.raises(ZeroDivisionError):
        await room.background(lambda: 1 // 0)
    assert room.stepping == 0


async def test_what_becomes_a_final_may_run_where_a_partial_may_not() -> None:
    """Partials leave one place free; ``deal`` looks again at what is waited for."""
    room = EngineRoom(FakeEngine(), workers=2)
    order: list[str] = []
    urgent: list[str] = []
    try:
        async with room.slot(lambda: SOMETHING):
            waiting = asyncio.create_task(take(room, "a", urgent, order))
            await asyncio.sleep(0)
            assert (room.stepping, room.waiting) == (1, 1)
            urgent.append("a")
            room.deal()
            await asyncio.wait_for(waiting, 1)
    finally:
        room.close()
    assert order == ["a"]


async def test_what_steps_take_is_the_measured_load(room: EngineRoom) -> None:
    """Of finals and pauses; the room notes how long each place was held."""
    async with room.slot(lambda: SOMETHING):
        await asyncio.sleep(0.02)
    assert room.capacity.load(time.monotonic()) == 0
    async with room.slot(lambda: Due(Kind.PAUSE, 0.0)):
        await asyncio.sleep(0.02)
    assert 0.01 < room.capacity.load(time.monotonic()) < 1
