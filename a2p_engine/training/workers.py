"""Processes side by side, one thread each, that end when the program that started them does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

from tqdm import tqdm

from a2p_engine.errors import A2PError

Item = TypeVar("Item")

_error: A2PError | None = None  # why this worker could not start


def run_side_by_side(
    work: Callable[[Item], None],
    items: Sequence[Item],
    *,
    start: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    unit: str,
) -> None:
    """Do the same to each item, with a progress bar; the first error ends it.

    Args:
        work: a function of a module, called in a worker with one item.
        items: what to work on.
        start: called once in each worker before all else, with ``arguments``.
        arguments: of ``start``.
        processes: number of workers.
        unit: what an item is, for the progress bar.

    Raises:
        A2PError: from ``start`` or ``work``; what was not begun is left undone.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers, before they import anything
    with ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_start, initargs=(start, arguments)
    ) as pool:
        running = [pool.submit(_work, work, item) for item in items]
        try:
            for done in tqdm(as_completed(running), total=len(running), desc=f"{unit}s", unit=unit):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _start(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    global _error
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        start(*arguments)
    except A2PError as error:
        _error = error  # told with the first item: from here the pool would lose the reason


def _work(work: Callable[[Item], None], item: Item) -> None:
    if _error is not None:
        raise _error
    work(item)


def _end_with_parent() -> None:
    """A killed program cannot stop its workers, and they would write where its successor does."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
