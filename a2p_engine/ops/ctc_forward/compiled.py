"""``ctc_forward.forward`` compiled by numba; the reference beside it says what each argument is."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


@numba.njit(nogil=True, cache=True)
def _log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + np.log1p(np.exp(low - high))


@numba.njit(nogil=True, cache=True)
def forward(
    log_probs: FloatArray,
    symbols: IntArray,
    lengths: IntArray,
    begins: IntArray,
    ends: IntArray,
) -> FloatArray:
    """See ``reference.forward``."""
    found = np.empty(len(lengths), np.float32)
    alpha = np.empty(2 * lengths.max() + 1 if len(lengths) else 1)
    first = 0
    for string in range(len(lengths)):
        length = lengths[string]
        states = 2 * length + 1
        alpha[:states] = -np.inf
        alpha[0] = 0.0  # the blank before the string, before any frame
        for t in range(begins[string], ends[string]):
            row = log_probs[t]
            # From the last state to the first, so that states to the left are those of t - 1.
            for state in range(states - 1, -1, -1):
                place = first + state // 2
                value = alpha[state]
                if state > 0:
                    value = _log_add(value, alpha[state - 1])
                if state > 2 and state % 2 == 1 and symbols[place] != symbols[place - 1]:
                    value = _log_add(value, alpha[state - 2])
                alpha[state] = value + row[symbols[place] if state % 2 == 1 else 0]
        found[string] = _log_add(alpha[states - 1], alpha[states - 2])
        first += length
    return found
