"""The outbox drops what is stale, keeps what counts, and has an end to its patience."""

from __future__ import annotations

import asyncio

import pytest

from streaming.errors import SlowReader
from streaming.events import Event, Final, Flushed, Partial, Stats
from streaming.outbox import Outbox


def partial(segment_id: int, revision: int) -> Partial:
    """A partial without text."""
    return Partial(
        segment_id=segment_id,
        revision=revision,
        start_sample=0,
        end_sample=0,
        committed="",
        volatile="",
    )


def final(segment_id: int) -> Final:
    """A final without text."""
    return Final(
        segment_id=segment_id,
        revision=9,
        start_sample=0,
        end_sample=0,
        text="",
        language="en",
        reason="endpoint",
    )


async def contents(outbox: Outbox, count: int) -> list[Event]:
    """The next events."""
    return [await outbox.get() for _ in range(count)]


async def test_a_partial_replaces_the_unsent_one_of_its_segment() -> None:
    """Only the newest partial of each segment is kept."""
    outbox = Outbox(10)
    for event in (partial(1, 1), partial(2, 1), partial(1, 2), partial(1, 3)):
        outbox.put(event)
    assert await contents(outbox, 2) == [partial(2, 1), partial(1, 3)]


async def test_a_final_replaces_the_unsent_partial_of_its_segment() -> None:
    """What the final settles need not be shown before."""
    outbox = Outbox(10)
    for event in (partial(1, 1), partial(2, 1), final(1)):
        outbox.put(event)
    assert await contents(outbox, 2) == [partial(2, 1), final(1)]


async def test_only_the_latest_statistics_are_kept() -> None:
    """Old numbers are worth nothing."""
    outbox = Outbox(10)
    for audio in (1, 2, 3):
        outbox.put(Stats(audio_samples=audio, lag_samples=0))
    assert await contents(outbox, 1) == [Stats(audio_samples=3, lag_samples=0)]


async def test_finals_are_kept_up_to_the_mark() -> None:
    """Any number of replaceable events fits; one final too many does not."""
    outbox = Outbox(3)
    for number in range(100):
        outbox.put(partial(9, number))
        outbox.put(Stats(audio_samples=number, lag_samples=0))
    overflow = asyncio.create_task(outbox.overflow())
    outbox.put(final(1))
    await asyncio.sleep(0)
    assert not overflow.done()
    outbox.put(final(2))
    with pytest.raises(SlowReader, match="3 events are unread"):
        await overflow
    assert (await contents(outbox, 3))[-1] == final(1)


async def test_drained_waits_until_the_last_event_was_sent() -> None:
    """Taking an event is not yet having sent it; asking for the next one is."""
    outbox = Outbox(3)
    outbox.put(Flushed())
    await outbox.get()
    waiting = asyncio.create_task(outbox.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    asking = asyncio.create_task(outbox.get())
    await waiting
    asking.cancel()
