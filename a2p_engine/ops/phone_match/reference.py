"""Plain form of ``phone_match.advance``, cell by cell as the formula reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


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
    """Take the state of M pronunciations over T more frames, in place.

    Args:
        costs: [T, S] non-negative cost of each symbol at each new frame.
        first_frame: number of the first new frame.
        phones: [P] symbols of all pronunciations, one after the other.
        offsets: [M + 1], pronunciation m owns ``phones[offsets[m]:offsets[m + 1]]``.
        deletion: cost of leaving out one phoneme.
        linger: cost of each frame of blank inside a pronunciation.
        path_cost: [P] state, inf before the first frame.
        path_start: [P] state, frame at which the path began.
        best_cost: [M] state, least cost so far, inf before the first frame.
        best_start: [M] state, first frame of the best path.
        best_end: [M] state, last frame of the best path.
    """
    for step, cost in enumerate(costs):
        frame = first_frame + step
        for index in range(len(offsets) - 1):
            low, high = int(offsets[index]), int(offsets[index + 1])
            before = [(float(path_cost[i]), int(path_start[i])) for i in range(low, high)]
            for i in range(high - low):
                symbol = cost[phones[low + i]]
                fresh = (0.0, frame)
                entry = before[i - 1] if i else fresh
                options = [
                    (before[i][0] + min(symbol, cost[0] + linger), before[i][1]),
                    (entry[0] + symbol, entry[1]),
                ]
                if i:
                    skipped = before[i - 2] if i > 1 else fresh
                    options.append((skipped[0] + symbol + deletion, skipped[1]))
                least = min(options, key=lambda option: option[0])
                path_cost[low + i], path_start[low + i] = least
            ends = [(float(path_cost[high - 1]), int(path_start[high - 1]))]
            if high - low > 1:
                ends.append((float(path_cost[high - 2]) + deletion, int(path_start[high - 2])))
            end = min(ends, key=lambda option: option[0])
            if end[0] < best_cost[index]:
                best_cost[index], best_start[index] = end
                best_end[index] = frame
