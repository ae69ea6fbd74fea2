"""Memory that is free goes back to the system."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


# Threads that allocate side by side, as each would get a heap of its own; then glibc's own account.
COUNT_HEAPS = """
import ctypes, sys, threading
from streaming.operations import memory

if sys.argv[2] == "shared":
    assert memory.share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
barrier = threading.Barrier(6)

def allocate():
    barrier.wait()
    libc.malloc(10_000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.parametrize("shared", [False, True])
def test_threads_share_heaps(shared: bool, tmp_path: Path) -> None:
    """Six threads have a heap each, or share as many as are allowed."""
    account = tmp_path / "malloc.xml"
    how = "shared" if shared else "own"
    environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT_HEAPS, str(account), how]
    subprocess.run(command, check=True, env=environment)
    heaps = account.read_text().count("<heap nr=")
    assert heaps == memory.HEAPS if shared else heaps > memory.HEAPS


def test_a_setting_of_the_environment_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the server may choose another number of heaps."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not memory.share_heaps()


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
