"""``phone_match.advance`` compiled by numba; the reference beside it says what each argument is."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def advance(
    costs: FloatArray,
    first_frame: int,
    phones: npt.NDArray[Any],
    offsets: IntArray,
    deletion: float,
    linger: float,
    path_cost: FloatArray,
    path_start: IntArray,
    best_cost: FloatArray,
    best_start: IntArray,
    best_end: IntArray,
) -> None:
    """See ``reference.advance``."""
    drop = np.float32(deletion)
    hold = np.float32(linger)
    zero = np.float32(0.0)
    for index in range(len(offsets) - 1):
        low, high = offsets[index], offsets[index + 1]
        for step in range(costs.shape[0]):
            frame = first_frame + step
            blank = costs[step, 0] + hold
            # From the last phoneme to the first, so that the cells to the left still hold the
            # previous frame.
            for cell in range(high - 1, low - 1, -1):
                symbol = costs[step, phones[cell]]
                if cell > low:
                    cost, start = path_cost[cell - 1] + symbol, path_start[cell - 1]
                else:
                    cost, start = symbol, frame
                stay = path_cost[cell] + min(symbol, blank)
                if stay <= cost:
                    cost, start = stay, path_start[cell]
                if cell > low:
                    if cell > low + 1:
                        skip, skip_start = path_cost[cell - 2], path_start[cell - 2]
                    else:
                        skip, skip_start = zero, frame
                    skip += symbol + drop
                    if skip < cost:
                        cost, start = skip, skip_start
                path_cost[cell], path_start[cell] = cost, start
            end, start = path_cost[high - 1], path_start[high - 1]
            if high - low > 1 and path_cost[high - 2] + drop < end:
                end, start = path_cost[high - 2] + drop, path_start[high - 2]
            if end < best_cost[index]:
                best_cost[index], best_start[index], best_end[index] = end, start, frame
