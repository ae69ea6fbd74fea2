"""Plain torch form of the term scorer's three steps, as the formulas read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    """Attention of every token over the frames heard so far, one per session, updated in place.

    Attributes:
        lse: [K, H, W] base-2 logarithm of the sum of 2^score, -inf before the first frame.
        mean: [K, H, W] mean of the frames' values weighted by 2^score, zero before the first frame.
    """

    lse: Tensor
    mean: Tensor

    def merge(self, other: State) -> State:
        """A new state over the frames of both; associative, commutative, empty ones are neutral."""
        top = torch.maximum(self.lse, other.lse)
        # Two empty sides would give -inf + inf; a finite stand-in keeps their sums zero.
        safe = torch.where(top.isinf(), torch.zeros_like(top), top)
        mine, theirs = (self.lse - safe).exp2(), (other.lse - safe).exp2()
        total = mine + theirs
        weighted = mine * self.mean + theirs * other.mean
        mean = torch.where(total > 0, weighted / total, torch.zeros_like(total))
        return State(safe + total.log2(), mean)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    frames: Tensor,
    settled: Tensor,
    states: Sequence[State],
    gain: Tensor,
) -> None:
    """Take new frames of B sessions into their states and read out every token's gain.

    A session's first ``settled`` frames enter its state for good; the rest, up to ``frames``, count
    towards the gain of this call only. What lies beyond is padding and may hold anything.

    Args:
        queries: [K, H, d, W], K blocks of W tokens; scaled by log2(e) / sqrt(d).
        keys: [B, H, T, d].
        values: [B, H, T], the scalar e of each head and frame.
        frames: int32 [B], at most T; a session may have none.
        settled: int32 [B], at most ``frames``.
        states: B states, updated in place.
        gain: [B, K * W], overwritten: sum over the heads of the mean value a token attends to,
            zero where nothing was heard.
    """
    for session, state in enumerate(states):
        count, split = int(frames[session]), int(settled[session])
        first = _state_of(queries, keys[session, :, :split], values[session, :, :split])
        after = state.merge(first)
        state.lse.copy_(after.lse)
        state.mean.copy_(after.mean)
        rest = _state_of(queries, keys[session, :, split:count], values[session, :, split:count])
        gain[session] = after.merge(rest).mean.sum(1).view(-1)


def _state_of(queries: Tensor, keys: Tensor, values: Tensor) -> State:
    """The state over some frames: keys [H, T, d], values [H, T]."""
    if keys.shape[1] == 0:
        blocks, heads, _, width = queries.shape
        empty = torch.zeros(blocks, heads, width, dtype=values.dtype, device=values.device)
        return State(empty - torch.inf, empty)
    scores = torch.einsum("khdw,htd->khtw", queries.to(keys.dtype), keys)
    top = scores.amax(2)
    weights = (scores - top.unsqueeze(2)).exp2()
    total = weights.sum(2)
    return State(top + total.log2(), torch.einsum("khtw,ht->khw", weights, values) / total)


def pool(gain: Tensor, rows: Tensor, offsets: Tensor, bias: Tensor, out: Tensor) -> None:
    """Mean of the token gains of each form (CSR), plus a bias.

    Args:
        gain: [B, V].
        rows: int32 [R], tokens of all forms, one form after the other.
        offsets: int32 [F + 1]: form f owns ``rows[offsets[f]:offsets[f + 1]]``, never none.
        bias: [F], -inf for a form that is switched off.
        out: [B, F], overwritten.
    """
    lengths = (offsets[1:] - offsets[:-1]).long()
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=rows.device), lengths)
    sums = gain.new_zeros(gain.shape[0], len(lengths), dtype=torch.float64)
    sums.index_add_(1, owner, gain[:, rows.long()].double())
    out.copy_(sums / lengths + bias)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and places of the k largest of [N] scores, largest first; ties in order of place."""
    order = torch.sort(scores, descending=True, stable=True)
    return order.values[:k], order.indices[:k]
