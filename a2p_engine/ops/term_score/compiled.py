"""The term scorer on CPU: matrix products by torch, everything after them compiled by numba.

Work goes block by block of ``W`` tokens, so that a block's queries and scores stay in the cache
while all sessions use them. Scores lie with the tokens innermost: every loop below runs over lanes
side by side, without branches or reductions, and becomes vector instructions.

Buffers belong to the calling thread and are kept, so that a steady tick allocates nothing. Work is
spread over as many threads as torch would use (``torch.get_num_threads``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.ops.term_score.reference import State
from a2p_engine.threads import alone, spread

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

CHUNK_FRAMES = 128  # scores of a block of 256 tokens and 8 heads are then a megabyte
LEAST_FORMS = 50_000  # a thread more is worth waking for so many

# Multiply and add may be fused; the loops rely on infinities and on the order of the rest.
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@_compiled
def _exp2(exponents: FloatArray, base: FloatArray, fraction: FloatArray, bits: IntArray) -> None:
    """2^(exponents - base) as ``fraction`` times the float that ``bits`` spell; base is not below.

    2^x = 2^f 2^floor(x): the second factor is an exponent field, the first a polynomial fitted to
    [0, 1) with a relative error of 8e-8. What is below 2^-126 counts as 2^-126.
    """
    for lane in range(len(base)):
        x = max(exponents[lane] - base[lane], np.float32(-126.0))
        whole = np.floor(x)
        f = x - whole
        p = np.float32(0.00187758)
        p = p * f + np.float32(0.00898934)
        p = p * f + np.float32(0.05582632)
        p = p * f + np.float32(0.24015362)
        p = p * f + np.float32(0.69315307)
        fraction[lane] = p * f + np.float32(0.99999993)
        bits[lane] = (np.int32(whole) + np.int32(127)) << np.int32(23)


@_compiled
def _log2_parts(bits: IntArray, exponent: FloatArray, mantissa: IntArray) -> None:
    """Split floats of at least 1, given as bits, into 2^exponent times [0.71, 1.41)."""
    for lane in range(len(bits)):
        whole = (bits[lane] - np.int32(0x3F3504F3)) >> np.int32(23)  # 0x3F3504F3 spells sqrt(1/2)
        exponent[lane] = np.float32(whole)
        mantissa[lane] = bits[lane] - (whole << np.int32(23))


@_compiled
def _log2(exponent: FloatArray, mantissa: FloatArray, base: FloatArray, out: FloatArray) -> None:
    """Base + exponent + log2(mantissa), by the series of the area tangent, fitted to 7e-10."""
    for lane in range(len(out)):
        s = (mantissa[lane] - np.float32(1.0)) / (mantissa[lane] + np.float32(1.0))
        z = s * s
        p = np.float32(0.43173588)
        p = p * z + np.float32(0.57671438)
        p = p * z + np.float32(0.96179885)
        p = p * z + np.float32(2.88539008)
        out[lane] = base[lane] + (exponent[lane] + p * s)


@_compiled
def _raise_top(scores: FloatArray, top: FloatArray) -> None:
    for lane in range(len(top)):
        top[lane] = max(top[lane], scores[lane])


@_compiled
def _accumulate(
    fraction: FloatArray, power: FloatArray, value: np.float32, total: FloatArray, mean: FloatArray
) -> None:
    for lane in range(len(total)):
        weight = fraction[lane] * power[lane]
        total[lane] += weight
        mean[lane] += weight * value


@_compiled
def _rescale(fraction: FloatArray, power: FloatArray, total: FloatArray, mean: FloatArray) -> None:
    for lane in range(len(total)):
        total[lane] = fraction[lane] * power[lane]
        mean[lane] *= total[lane]


@_compiled
def _normalise(total: FloatArray, mean: FloatArray) -> None:
    for lane in range(len(total)):
        mean[lane] /= total[lane]


@_compiled
def _absorb(
    scores: FloatArray, values: FloatArray, lse: FloatArray, mean: FloatArray, lanes: FloatArray
) -> None:
    """Merge some frames (at least one) into a block's state, in place.

    Args:
        scores: [H, T, W] base-2 logits.
        values: [H, T].
        lse: [H, W], see ``State``.
        mean: [H, W], see ``State``.
        lanes: [4, W], overwritten.
    """
    top, total, fraction, power = lanes[0], lanes[1], lanes[2], lanes[3]
    bits = power.view(np.int32)
    for head in range(scores.shape[0]):
        top[:] = lse[head]
        for frame in range(scores.shape[1]):
            _raise_top(scores[head, frame], top)
        _exp2(lse[head], top, fraction, bits)
        _rescale(fraction, power, total, mean[head])
        for frame in range(scores.shape[1]):
            _exp2(scores[head, frame], top, fraction, bits)
            _accumulate(fraction, power, values[head, frame], total, mean[head])
        _normalise(total, mean[head])
        _log2_parts(total.view(np.int32), fraction, bits)
        _log2(fraction, power, top, lse[head])


@_compiled
def _sum_heads(mean: FloatArray, gain: FloatArray) -> None:
    gain[:] = 0.0
    for head in range(mean.shape[0]):
        for lane in range(len(gain)):
            gain[lane] += mean[head, lane]


@_compiled
def _pool(
    gain: FloatArray,
    rows: IntArray,
    offsets: IntArray,
    bias: FloatArray,
    first: int,
    last: int,
    out: FloatArray,
) -> None:
    for form in range(first, last):
        begin, end = offsets[form], offsets[form + 1]
        total = 0.0
        for place in range(begin, end):
            total += gain[rows[place]]
        out[form] = np.float32(total / (end - begin)) + bias[form]


@_compiled
def _sink(values: FloatArray, places: npt.NDArray[np.int64], hole: int) -> None:
    """Restore the heap (smallest first; among equals the last place first) below ``hole``."""
    value, place = values[hole], places[hole]
    while 2 * hole + 1 < len(values):
        child = 2 * hole + 1
        if child + 1 < len(values) and (
            values[child + 1] < values[child]
            or (values[child + 1] == values[child] and places[child + 1] > places[child])
        ):
            child += 1
        if values[child] > value or (values[child] == value and places[child] < place):
            break
        values[hole], places[hole] = values[child], places[child]
        hole = child
    values[hole], places[hole] = value, place


@_compiled
def _top_k(scores: FloatArray, values: FloatArray, places: npt.NDArray[np.int64]) -> None:
    k = len(values)
    for place in range(k):
        values[place], places[place] = scores[place], place
    for hole in range(k // 2 - 1, -1, -1):
        _sink(values, places, hole)
    for place in range(k, len(scores)):
        if scores[place] > values[0]:
            values[0], places[0] = scores[place], place
            _sink(values, places, 0)


class _Buffers(NamedTuple):
    queries: Tensor  # [H, d, W] float32, for queries kept in another type
    scores: Tensor  # [H * CHUNK_FRAMES * W]
    lse: FloatArray  # [H, W] and mean [H, W]: state and provisional frames together
    mean: FloatArray
    lanes: FloatArray  # [4, W]


class _Local(threading.local):
    buffers: tuple[torch.Size, _Buffers] | None = None


_local = _Local()


def _buffers(shape: torch.Size) -> _Buffers:
    """This thread's buffers for query blocks of shape [H, d, W]."""
    if _local.buffers is None or _local.buffers[0] != shape:
        heads, _, width = shape
        fresh = _Buffers(
            torch.empty(shape),
            torch.empty(heads * CHUNK_FRAMES * width),
            np.empty((heads, width), np.float32),
            np.empty((heads, width), np.float32),
            np.empty((4, width), np.float32),
        )
        _local.buffers = shape, fresh
    return _local.buffers[1]


class _Session(NamedTuple):
    keys: Tensor  # [H, T, d]
    values: FloatArray  # [H, T]
    settled: int
    lse: FloatArray  # [K, H, W]
    mean: FloatArray
    gain: FloatArray  # [K, W]


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    states: Sequence[State],
    gain: Tensor,
) -> None:
    """See ``reference.attend``; queries may be float32 or bfloat16, all else is float32."""
    blocks, _, _, width = queries.shape
    sessions = [
        _Session(
            keys[number, :, :count],
            values[number, :, :count].numpy(),
            split,
            state.lse.numpy(),
            state.mean.numpy(),
            gain[number].view(blocks, width).numpy(),
        )
        for number, (state, count, split) in enumerate(
            zip(states, frames.tolist(), settled.tolist(), strict=True)
        )
    ]
    with alone() as threads:
        spread(blocks, threads, lambda low, high: _attend_blocks(queries, sessions, low, high))


def _attend_blocks(queries: Tensor, sessions: Sequence[_Session], first: int, last: int) -> None:
    own = _buffers(queries.shape[1:])
    for block in range(first, last):
        query = queries[block]
        if query.dtype is not torch.float32:
            query = own.queries.copy_(query)
        for session in sessions:
            lse, mean = session.lse[block], session.mean[block]
            _absorb_frames(query, session, 0, session.settled, lse, mean, own)
            if session.settled < session.keys.shape[1]:
                own.lse[:], own.mean[:] = lse, mean
                lse, mean = own.lse, own.mean
                _absorb_frames(
                    query, session, session.settled, session.keys.shape[1], lse, mean, own
                )
            _sum_heads(mean, session.gain[block])


def _absorb_frames(
    query: Tensor,
    session: _Session,
    first: int,
    last: int,
    lse: FloatArray,
    mean: FloatArray,
    own: _Buffers,
) -> None:
    heads, _, width = query.shape
    for begin in range(first, last, CHUNK_FRAMES):
        end = min(begin + CHUNK_FRAMES, last)
        scores = own.scores[: heads * (end - begin) * width].view(heads, end - begin, width)
        torch.bmm(session.keys[:, begin:end], query, out=scores)
        _absorb(scores.numpy(), session.values[:, begin:end], lse, mean, own.lanes)


def pool(gain: Tensor, rows: Tensor, offsets: Tensor, bias: Tensor, out: Tensor) -> None:
    """See ``reference.pool``."""
    arrays = rows.numpy(), offsets.numpy(), bias.numpy()
    sessions = list(zip(gain.numpy(), out.numpy(), strict=True))

    def pool_forms(first: int, last: int) -> None:
        for token_gain, scores in sessions:
            _pool(token_gain, *arrays, first, last, scores)

    spread(len(bias), min(torch.get_num_threads(), len(bias) // LEAST_FORMS), pool_forms)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See ``reference.top_k``."""
    k = min(k, len(scores))
    values, places = np.empty(k, np.float32), np.empty(k, np.int64)
    if k:
        _top_k(scores.numpy(), values, places)
    order = np.lexsort((places, -values))
    return torch.from_numpy(values[order]), torch.from_numpy(places[order])
