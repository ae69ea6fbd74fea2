"""The dense form of the head, as released: every term's tokens against a whole padded window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.bench.clock import Clock, Timing
from a2p_engine.bench.cost import dense_bytes, dense_flop
from a2p_engine.bench.glossaries import Glossary
from a2p_engine.bench.machine import available_bytes
from a2p_engine.bench.rates import DTYPE, Rates
from a2p_engine.bench.synthetic import Model

When = Literal["auto", "always", "never"]

MOST_TERMS = 10_000
RUNS = 3
LIMIT_S = 120.0  # longest expected run with "auto"
LONG_S = 10.0  # a run expected to take longer is made once, without a warm-up


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The dense form over one glossary and one window, for one session.

    Attributes:
        terms: N.
        longest: L, tokens to which every term is padded.
        flop: of one run, padding included.
        bytes: of its activations.
        timing: of forward; None where it was left out.
        reason: why it was left out.
        to_rescore: dense time over ours from nothing.
        to_tick: dense time over our tick of half a second, for one session.
    """

    terms: int
    longest: int
    flop: int
    bytes: int
    timing: Timing | None = None
    reason: str | None = None
    to_rescore: float | None = None
    to_tick: float | None = None


def measure(
    model: Model, glossary: Glossary, frames: int, clock: Clock, rates: Rates, when: When
) -> Dense:
    """Time the dense form unless memory or time speak against it; ratios are left open."""
    dtype = DTYPE[clock.device.type]
    longest = int(glossary.lengths.max())
    rows = len(glossary) * longest
    flop = dense_flop(model.preset, rows=rows, frames=frames)
    size = dense_bytes(model.preset, rows=rows, frames=frames, element_bytes=dtype.itemsize)
    expected_s = flop / rates.matmul_flop_per_s
    reason = _objection(len(glossary), size, expected_s, clock, when)
    timing = None
    if reason is None:
        arguments = inputs(model, glossary, longest, frames, dtype)
        module = model.module.to(dtype)
        many = expected_s <= LONG_S
        timing = clock.time(
            lambda _: module(*arguments), RUNS if many else 1, warm_ups=1 if many else 0
        )
    return Dense(
        terms=len(glossary), longest=longest, flop=flop, bytes=size, timing=timing, reason=reason
    )


def _objection(terms: int, size: int, expected_s: float, clock: Clock, when: When) -> str | None:
    """Why the dense form is not run."""
    if when == "never":
        return "not asked for"
    if terms > MOST_TERMS:
        return f"more than {MOST_TERMS:,} terms"
    available = available_bytes(clock.device)
    if size > available:
        return f"needs {size / 1e9:.1f} GB, {available / 1e9:.1f} GB are free"
    if when == "auto" and expected_s > LIMIT_S:
        return f"would take {expected_s:.0f} s a run; --dense always runs it"
    return None


def inputs(
    model: Model, glossary: Glossary, longest: int, frames: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments of ``AttentionRetriever.forward``; of the embeddings only rows that are in use."""
    device = model.recording.device
    mask = np.arange(longest) < glossary.lengths[:, None]  # [N, L]
    ids: npt.NDArray[np.int64] = np.zeros(mask.shape, np.int64)
    ids[mask] = np.searchsorted(glossary.distinct, glossary.token_ids)
    rows = torch.from_numpy(glossary.distinct).long().to(device)
    return (
        model.embeddings[rows].to(dtype),
        torch.from_numpy(ids).to(device),
        torch.from_numpy(mask).to(device),
        model.recording[None, :frames].to(dtype),
        torch.ones(1, frames, device=device),
    )
