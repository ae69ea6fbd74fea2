"""Online-softmax state of the folded head: frames arrive in any chunks, the result is exact.

Per token and head the state keeps the triple (maximum, sum, weighted sum) of the attention scores
seen so far; two states over disjoint frames merge associatively (Milakov and Gimelshein 2018,
arXiv 1805.02867).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionState:
    """State over some frames; immutable, so a provisional tail never touches committed frames.

    Attributes:
        maximum: [H, V] largest score, -inf before the first frame.
        total: [H, V] sum of exp(score - maximum).
        weighted: [H, V] sum of exp(score - maximum) * e.
    """

    maximum: Tensor
    total: Tensor
    weighted: Tensor

    @classmethod
    def empty(cls, heads: int, tokens: int) -> AttentionState:
        """The state before any frame: the neutral element of ``merge``."""
        shape = (heads, tokens)
        return cls(torch.full(shape, -torch.inf), torch.zeros(shape), torch.zeros(shape))

    @classmethod
    def of(cls, queries: Tensor, keys: Tensor, values: Tensor) -> AttentionState:
        """The state over one chunk of frames.

        Args:
            queries: [H, V, d], scaled.
            keys: [H, d, T].
            values: [H, T].
        """
        if keys.shape[2] == 0:
            return cls.empty(queries.shape[0], queries.shape[1])
        scores = torch.bmm(queries, keys)  # [H, V, T]
        maximum = scores.amax(2)
        scores.sub_(maximum.unsqueeze(2)).exp_()
        return cls(maximum, scores.sum(2), torch.bmm(scores, values.unsqueeze(2)).squeeze(2))

    def merge(self, other: AttentionState) -> AttentionState:
        """The state over the frames of both."""
        maximum = torch.maximum(self.maximum, other.maximum)
        # Both sides empty would give exp(-inf + inf); a finite stand-in keeps their zero sums zero.
        safe = torch.where(maximum.isinf(), torch.zeros_like(maximum), maximum)
        mine, theirs = (self.maximum - safe).exp(), (other.maximum - safe).exp()
        return AttentionState(
            maximum,
            self.total * mine + other.total * theirs,
            self.weighted * mine + other.weighted * theirs,
        )

    def gain(self) -> Tensor:
        """What the audio adds to each token's logit: [V]; zero before the first frame."""
        ratio = self.weighted / self.total
        return torch.where(self.total > 0, ratio, torch.zeros_like(ratio)).sum(0)


def pool_terms(token_logits: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Mean of the token logits of each term (CSR): [V] to [N].

    Args:
        token_logits: [V].
        rows: [total tokens of all terms], rows of ``token_logits``.
        offsets: [N + 1], term n owns ``rows[offsets[n]:offsets[n + 1]]``; no term is empty.
    """
    gathered = token_logits[rows].double()
    sums = torch.cat([gathered.new_zeros(1), gathered.cumsum(0)])[offsets]
    lengths = (offsets[1:] - offsets[:-1]).to(sums.dtype)
    return ((sums[1:] - sums[:-1]) / lengths).to(token_logits.dtype)
