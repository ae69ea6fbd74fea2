"""Gives memory that the models have freed back to the system, now and then.

Windows of many lengths come and go in several threads. What they leave free lies between what is
still in use, where glibc keeps it, a little more with every hour, although no more is in use.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

EVERY_S = 60.0


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
