"""Memory that is free goes back to the system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import numpy as np
import pytest

from streaming.bench.process import ProcessMeter
from streaming.operations import memory
from tests.streaming.conftest import Serving

PIECE_SAMPLES = 16_000  # 64 KB: small enough to lie in the heap
PIECES = 1_000


def test_what_lies_free_between_what_is_used_is_given_back() -> None:
    """Three of four pieces of a heap in use are freed; the process keeps them until told."""
    meter = ProcessMeter(os.getpid())
    pieces = [np.ones(PIECE_SAMPLES, np.float32) for _ in range(PIECES)]
    kept = pieces[::4]
    freed_bytes = (len(pieces) - len(kept)) * kept[0].nbytes
    del pieces
    before = meter.resident_bytes()
    give_back = memory.trimmer()
    assert give_back is not None
    give_back()
    assert before - meter.resident_bytes() > freed_bytes / 2
    assert all(piece.all() for piece in kept)


async def test_a_server_gives_back_regularly(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From start to stop, in a thread."""
    calls: list[bool] = []

    def trimmer() -> Callable[[], None]:
        def give_back() -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            calls.append(True)

        return give_back

    monkeypatch.setattr(memory, "trimmer", trimmer)
    monkeypatch.setattr(memory, "EVERY_S", 0.02)
    async with serving():
        async with asyncio.timeout(10):
            while len(calls) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    given = len(calls)
    await asyncio.sleep(0.1)
    assert len(calls) == given


async def test_without_glibc_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task ends by itself."""
    monkeypatch.setattr(memory, "trimmer", lambda: None)
    async with asyncio.timeout(1):
        await memory.give_back_regularly()
