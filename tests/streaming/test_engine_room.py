"""Places for steps are bounded, go to finals first, and are never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from streaming.engine_room import EngineRoom
from tests.streaming.fake_engine import FakeEngine


@pytest.fixture
def room() -> Iterator[EngineRoom]:
    """A room with one place."""
    room = EngineRoom(FakeEngine(), workers=1)
    yield room
    room.close()


async def take(room: EngineRoom, name: str, urgent: list[str], order: list[str]) -> None:
    """Hold a place for a moment; urgent as long as the name is listed."""
    async with room.slot(lambda: name in urgent):
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
    async with room.slot(lambda: False):
        waiting = [asyncio.create_task(take(room, name, urgent, order)) for name in "abcd"]
        await asyncio.sleep(0)
        urgent.append("c")
    await asyncio.gather(*waiting)
    assert order == list("cabd")


async def test_a_cancelled_wait_does_not_lose_the_place(room: EngineRoom) -> None:
    """Whether it is cancelled before or in the moment of its turn."""
    order: list[str] = []
    async with room.slot(lambda: False):
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
    async with room.slot(lambda: False):
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
