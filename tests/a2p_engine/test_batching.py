"""Calls of several threads in one batch: nobody waits for company, nobody is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from a2p_engine.batching import Batcher


class Squares:
    """Squares numbers, batch by batch; waits for ``gate`` as a slow model would."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.most_busy = 0
        self._busy = 0

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        """See the class."""
        self.batches.append(list(numbers))
        self._busy += 1
        self.most_busy = max(self.most_busy, self._busy)
        self.began.release()
        assert self.gate.wait(10)
        self._busy -= 1
        if 13 in numbers:
            raise ValueError("unlucky")
        return [number * number for number in numbers]


def queued(batcher: Batcher[int, int], numbers: Sequence[int], pool: ThreadPoolExecutor) -> list:
    """Calls that come one after the other while the model is busy."""
    calls = []
    for number in numbers:
        before = len(batcher._waiting)
        calls.append(pool.submit(batcher, number))
        until(lambda before=before: len(batcher._waiting) > before)
    return calls


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = threading.Event()
    for _ in range(1000):
        if condition():
            return
        deadline.wait(0.005)
    raise AssertionError("it never happened")


def test_a_free_model_is_called_at_once_and_alone() -> None:
    """In the caller's own thread."""
    squares = Squares()
    squares.gate.set()
    assert Batcher(squares, limit=8)(3) == 9
    assert squares.batches == [[3]]


def test_calls_that_come_while_it_is_busy_share_the_next_batches() -> None:
    """In order, and no more than the limit together."""
    squares = Squares()
    batcher = Batcher(squares, limit=3)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, 1)
        squares.began.acquire()
        others = queued(batcher, [2, 3, 4, 5], pool)
        squares.gate.set()
        assert [first.result(10), *(call.result(10) for call in others)] == [1, 4, 9, 16, 25]
    assert squares.batches == [[1], [2, 3, 4], [5]]
    assert squares.most_busy == 1


def test_only_what_is_alike_shares_a_batch() -> None:
    """The oldest call decides what goes next."""
    squares = Squares()
    batcher = Batcher(squares, limit=8, alike=lambda number: number % 2)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, 0)
        squares.began.acquire()
        others = queued(batcher, [1, 2, 3, 4], pool)
        squares.gate.set()
        assert [call.result(10) for call in (first, *others)] == [0, 1, 4, 9, 16]
    assert squares.batches == [[0], [1, 3], [2, 4]]


def test_lanes_run_side_by_side() -> None:
    """So many batches, no more."""
    squares = Squares()
    batcher = Batcher(squares, limit=2, lanes=2)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(batcher, number) for number in (1, 2)]
        squares.began.acquire()
        squares.began.acquire()
        calls += queued(batcher, [3, 4], pool)
        assert squares.most_busy == 2
        squares.gate.set()
        assert [call.result(10) for call in calls] == [1, 4, 9, 16]


def test_an_error_costs_only_the_one_that_it_is_about() -> None:
    """A batch that fails is tried again one by one."""
    squares = Squares()
    batcher = Batcher(squares, limit=8)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, 1)
        squares.began.acquire()
        others = queued(batcher, [2, 13, 4], pool)
        squares.gate.set()
        assert [first.result(10), others[0].result(10), others[2].result(10)] == [1, 4, 16]
        with pytest.raises(ValueError, match="unlucky"):
            others[1].result(10)
    assert squares.batches == [[1], [2, 13, 4], [2], [13], [4]]


def test_without_batches_nothing_is_queued() -> None:
    """A limit of one leaves threads to run side by side as they like."""
    squares = Squares()
    batcher = Batcher(squares, limit=1)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(batcher, number) for number in (1, 2, 3)]
        for _ in calls:
            squares.began.acquire()
        squares.gate.set()
        assert [call.result(10) for call in calls] == [1, 4, 9]
    assert squares.most_busy == 3
