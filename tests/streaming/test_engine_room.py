"""Places for steps are bounded, go to finals first, and are never lost."""

from __future__ import annotations

import asyncio
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
