"""Work spread over threads without torch's own, for work that comes in small pieces.

Torch's threads wait for more by spinning, and so take a core from whoever works next: on two cores,
a tick of two milliseconds becomes one of four. Here the calling thread does its share with torch
kept to itself, and the others sleep when there is nothing to do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

One = TypeVar("One")
Other = TypeVar("Other")


@contextmanager
def alone() -> Iterator[int]:
    """Keep the calling thread's torch to one thread; yields how many it would have used."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def own_threads() -> Iterator[None]:
    """Give the calling thread's torch its threads back; what runs inside may have taken them.

    CTranslate2 sets OpenMP's number of threads where it loads a model, and torch shares OpenMP.
    """
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def spread(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) for parts of range(count), side by side, and wait for all.

    Args:
        count: pieces of work.
        threads: that may be busy, the calling one included.
        work: does some pieces, with torch kept to its thread.
    """
    parts = min(threads, count)
    if parts <= 1:
        work(0, count)
        return
    edges = [count * part // parts for part in range(parts + 1)]
    ranges = list(itertools.pairwise(edges))
    others = [_pool(threads - 1).submit(_alone, work, *edge) for edge in ranges[1:]]
    try:
        _alone(work, *ranges[0])
    finally:
        for other in others:
            other.result()


def beside(one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """What both return; at the same time if torch would use more threads than one.

    Args:
        one: runs in a thread of its own, with torch kept to it, and so does
        other: in the calling one.
    """
    with alone() as threads:
        if threads == 1:
            return one(), other()
        pending = _pool(threads - 1).submit(_alone, one)
        try:
            found = other()
        finally:
            wait([pending])
        return pending.result(), found


def _alone(work: Callable[..., One], *arguments: int) -> One:
    with alone():
        return work(*arguments)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spread")
