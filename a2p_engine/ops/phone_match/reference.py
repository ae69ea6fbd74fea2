"""Plain form of ``phone_match.advance``, cell by cell as the formula reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

LANES = 128


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
    """Take the state of many pronunciations over T more frames, in place.

    Pronunciations stand side by side in blocks of ``LANES`` of the same length, phoneme by phoneme:
    a block of length L is an [L, LANES] table, and blocks follow one another.

    Args:
        costs: [T, S] non-negative cost of each symbol at each new frame.
        first_frame: number of the first new frame.
        phones: [P] symbols of all blocks.
        lengths: [blocks] phonemes per pronunciation of a block.
        deletion: cost of leaving out one phoneme.
        linger: cost of each frame of blank inside a pronunciation.
        path_cost: [P] state, inf before the first frame.
        path_start: [P] state, frame at which the path began.
        best_cost: [blocks * LANES] state, least cost so far, inf before the first frame.
        best_start: [blocks * LANES] state, first frame of the best path.
        best_end: [blocks * LANES] state, last frame of the best path.
    """
    base = 0
    for block, length in enumerate(lengths):
        for lane in range(LANES):
            cells = np.arange(length) * LANES + base + lane
            place = block * LANES + lane
            for step, cost in enumerate(costs):
                frame = first_frame + step
                paths = list(zip(path_cost[cells], path_start[cells], strict=True))
                paths = _next(paths, cost, phones[cells], frame, deletion, linger)
                path_cost[cells], path_start[cells] = zip(*paths, strict=True)
                ends = [paths[-1]]
                if length > 1:
                    ends.append((paths[-2][0] + deletion, paths[-2][1]))
                end = min(ends, key=lambda path: path[0])
                if end[0] < best_cost[place]:
                    best_cost[place], best_start[place] = end
                    best_end[place] = frame
        base += int(length) * LANES


def _next(
    before: list[tuple[float, int]],
    cost: FloatArray,
    phones: IntArray,
    frame: int,
    deletion: float,
    linger: float,
) -> list[tuple[float, int]]:
    """(cost, start) of the best path to each phoneme after one more frame."""
    fresh = (0.0, frame)
    after = []
    for i, phone in enumerate(phones):
        symbol = float(cost[phone])
        entry = before[i - 1] if i else fresh
        options = [
            (before[i][0] + min(symbol, float(cost[0]) + linger), before[i][1]),
            (entry[0] + symbol, entry[1]),
        ]
        if i:
            skipped = before[i - 2] if i > 1 else fresh
            options.append((skipped[0] + symbol + deletion, skipped[1]))
        after.append(min(options, key=lambda path: path[0]))
    return after
