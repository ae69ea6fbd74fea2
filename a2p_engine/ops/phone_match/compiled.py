"""``phone_match.advance`` compiled by numba; the reference beside it says what each argument is.

Every inner loop runs over the lanes of a block and has no branch and no aliasing index, so that the
compiler makes vector instructions of it: an order of magnitude over going pronunciation by
pronunciation. It works from the last phoneme to the first, so that the cells to the left still hold
the previous frame.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from a2p_engine.ops.phone_match.reference import LANES

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def _gather(row: FloatArray, phones: IntArray, symbols: FloatArray) -> None:
    for lane in range(len(symbols)):
        symbols[lane] = row[phones[lane]]


@numba.njit(nogil=True, cache=True)
def _first(
    symbols: FloatArray, blank: np.float32, frame: np.int32, cost: FloatArray, start: IntArray
) -> None:
    for lane in range(len(cost)):
        stay = cost[lane] + min(symbols[lane], blank)
        kept = stay <= symbols[lane]
        cost[lane] = stay if kept else symbols[lane]
        start[lane] = start[lane] if kept else frame


@numba.njit(nogil=True, cache=True)
def _second(
    symbols: FloatArray,
    blank: np.float32,
    frame: np.int32,
    deletion: np.float32,
    left_cost: FloatArray,
    left_start: IntArray,
    cost: FloatArray,
    start: IntArray,
) -> None:
    for lane in range(len(cost)):
        skips = deletion < left_cost[lane]
        entry = (deletion if skips else left_cost[lane]) + symbols[lane]
        begun = frame if skips else left_start[lane]
        stay = cost[lane] + min(symbols[lane], blank)
        kept = stay <= entry
        cost[lane] = stay if kept else entry
        start[lane] = start[lane] if kept else begun


@numba.njit(nogil=True, cache=True)
def _later(
    symbols: FloatArray,
    blank: np.float32,
    deletion: np.float32,
    far_cost: FloatArray,
    far_start: IntArray,
    left_cost: FloatArray,
    left_start: IntArray,
    cost: FloatArray,
    start: IntArray,
) -> None:
    for lane in range(len(cost)):
        skip = far_cost[lane] + deletion
        skips = skip < left_cost[lane]
        entry = (skip if skips else left_cost[lane]) + symbols[lane]
        begun = far_start[lane] if skips else left_start[lane]
        stay = cost[lane] + min(symbols[lane], blank)
        kept = stay <= entry
        cost[lane] = stay if kept else entry
        start[lane] = start[lane] if kept else begun


@numba.njit(nogil=True, cache=True)
def _end(
    extra: np.float32,
    cost: FloatArray,
    start: IntArray,
    frame: np.int32,
    best_cost: FloatArray,
    best_start: IntArray,
    best_end: IntArray,
) -> None:
    for lane in range(len(best_cost)):
        better = cost[lane] + extra < best_cost[lane]
        best_cost[lane] = cost[lane] + extra if better else best_cost[lane]
        best_start[lane] = start[lane] if better else best_start[lane]
        best_end[lane] = frame if better else best_end[lane]


@numba.njit(nogil=True, cache=True)
def advance(
    costs: FloatArray,
    first_frame: int,
    phones: IntArray,
    lengths: IntArray,
    deletion: float,
    linger: float,
    path_cost: FloatArray,
    path_start: IntArray,
    best_cost: FloatArray,
    best_start: IntArray,
    best_end: IntArray,
) -> None:
    """See ``reference.advance``."""
    drop, nothing = np.float32(deletion), np.float32(0.0)
    symbols = np.empty(LANES, np.float32)
    base = 0
    for block in range(len(lengths)):
        place = slice(block * LANES, (block + 1) * LANES)
        best = best_cost[place], best_start[place], best_end[place]
        size = lengths[block] * LANES
        cost = path_cost[base : base + size].reshape(-1, LANES)
        start = path_start[base : base + size].reshape(-1, LANES)
        phone = phones[base : base + size].reshape(-1, LANES)
        last = lengths[block] - 1
        for step in range(costs.shape[0]):
            row, frame = costs[step], np.int32(first_frame + step)
            blank = row[0] + np.float32(linger)
            for i in range(last, -1, -1):
                _gather(row, phone[i], symbols)
                if i > 1:
                    _later(
                        symbols, blank, drop, cost[i - 2], start[i - 2], cost[i - 1], start[i - 1],
                        cost[i], start[i],
                    )  # fmt: skip
                elif i == 1:
                    _second(symbols, blank, frame, drop, cost[0], start[0], cost[1], start[1])
                else:
                    _first(symbols, blank, frame, cost[0], start[0])
            _end(nothing, cost[last], start[last], frame, best[0], best[1], best[2])
            if last > 0:
                _end(drop, cost[last - 1], start[last - 1], frame, best[0], best[1], best[2])
        base += size
