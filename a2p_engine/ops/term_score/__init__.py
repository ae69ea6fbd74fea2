"""Attention of every glossary token over new audio frames, for many sessions in one pass.

With q[v, h] the query of token v, k[t, h] the key and e[t, h] the value of frame t, the gain of a
token is

    gain[v] = sum_h sum_t softmax_t(q[v, h] . k[t, h]) e[t, h]

over all frames a session has heard. Per token and head the state is the logarithm of the softmax's
denominator and the mean so far; new frames merge into it exactly (Milakov and Gimelshein 2018,
arXiv 1805.02867). Logarithms and scores are to the base 2, queries carry the factor log2(e).

``attend`` updates states and reads gains out, ``pool`` takes token gains to terms, ``top_k`` finds
the best. On CUDA they are Triton kernels, on CPU numba and torch's matrix product.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from a2p_engine.ops.term_score import compiled, reference
from a2p_engine.ops.term_score.reference import State

__all__ = ["State", "attend", "pool", "top_k"]

log = logging.getLogger(__name__)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    states: Sequence[State],
    gain: Tensor,
) -> None:
    """See ``reference.attend``."""
    _backend(queries.device).attend(queries, keys, values, frames, settled, states, gain)


def pool(gain: Tensor, rows: Tensor, offsets: Tensor, bias: Tensor, out: Tensor) -> None:
    """See ``reference.pool``."""
    _backend(gain.device).pool(gain, rows, offsets, bias, out)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See ``reference.top_k``; on CUDA, ties come in no particular order."""
    if scores.device.type == "cpu":
        return compiled.top_k(scores, k)
    values, places = torch.topk(scores, min(k, len(scores)))
    return values, places


@cache
def _backend(device: torch.device) -> ModuleType:
    if device.type == "cpu":
        return compiled
    try:
        return importlib.import_module("a2p_engine.ops.term_score.triton")
    except ImportError as error:
        log.warning("Triton cannot be used (%s): terms are scored by plain torch, slowly", error)
        return reference
