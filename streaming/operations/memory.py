"""Keeps what glibc holds for the models small: few heaps, and free pages given back now and then.

Windows of many lengths come and go in several threads. What they leave free lies between what is
still in use, where glibc keeps it, a little more with every hour, although no more is in use; and
of several heaps each keeps its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

EVERY_S = 60.0
# glibc's default is eight a core. Most of the models' time goes by outside of malloc, so that a
# second thread seldom waits.
HEAPS = 2
M_ARENA_MAX = -8  # malloc.h


def share_heaps() -> bool:
    """Have all threads share ``HEAPS`` heaps; before the threads, as those that exist stay.

    An environment with MALLOC_ARENA_MAX is left alone, as is another C library than glibc; then
    the answer is False.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or "MALLOC_ARENA_MAX" in os.environ:
        return False
    return bool(mallopt(M_ARENA_MAX, HEAPS))


async def give_back_regularly() -> None:
    """Give back what is free every ``EVERY_S``; ends at once where the C library cannot."""
    give_back = trimmer()
    while give_back is not None:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(give_back)


def trimmer() -> Callable[[], None] | None:
    """What gives back whole free pages of all threads in some milliseconds; None without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return None

    def give_back() -> None:
        trim(ctypes.c_size_t(0))

    return give_back
