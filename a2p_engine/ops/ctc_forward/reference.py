"""``ctc_forward.forward`` by torch's own CTC loss, one string at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


def forward(
    log_probs: FloatArray,
    symbols: IntArray,
    lengths: IntArray,
    begins: IntArray,
    ends: IntArray,
) -> FloatArray:
    """Log-probability of each string in its stretch, all alignments together.

    Args:
        log_probs: [T, S] of a CTC head; symbol 0 is the blank.
        symbols: [P] symbols of all strings, one after the other.
        lengths: [M] symbols of each string, at least one.
        begins: [M] first frame of each stretch.
        ends: [M] one past its last frame.

    Returns:
        [M] nats, -inf where a stretch is too short for its string.
    """
    found = []
    first = 0
    for length, begin, end in zip(lengths, begins, ends, strict=True):
        loss = torch.nn.functional.ctc_loss(
            torch.from_numpy(log_probs[begin:end]).double()[:, None],
            torch.from_numpy(symbols[first : first + length].astype(np.int64))[None],
            torch.tensor([int(end - begin)]),
            torch.tensor([int(length)]),
            reduction="sum",
        )
        found.append(-float(loss))
        first += int(length)
    return np.array(found, np.float32)
