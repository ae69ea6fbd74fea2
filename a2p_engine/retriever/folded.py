"""The A2P head folded for serving: the dense head's numbers from one scalar per frame and head.

After the softmax every step of the head is linear and a query depends on its token alone
(arXiv 2508.18701, section 3), so with a = the class-1 minus class-0 row of the classifier, pulled
back through ``audio_word_fc`` and the attention's output projection,

    logit(term) = mean over its tokens of g(token)
    g(token)    = prior(token) + sum_h sum_t softmax_t(q[token, h] . k[t, h] / sqrt(d)) * e[t, h]

where e[t, h] is the value projection of frame t contracted with a. The key bias shifts all of a
token's scores alike and cancels in the softmax. Queries carry the factor log2(e) / sqrt(d), so that
the softmax is taken with powers of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from a2p_engine.retriever.attention import AttentionRetriever


@dataclass(frozen=True, kw_only=True)
class FoldedHead:
    """Matrices that take embeddings to queries and frames to keys and scalar values.

    Attributes:
        heads: H.
        query_weight: [D, D] and query_bias [D], scaled by log2(e) / sqrt(d).
        key_weight: [D, D].
        value_weight: [H, D] and value_bias [H].
        prior_weight: [D] and prior_bias, the part of a token's logit that no audio changes.
    """

    heads: int
    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    value_weight: Tensor
    value_bias: Tensor
    prior_weight: Tensor
    prior_bias: Tensor

    @torch.no_grad()
    def tokens(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [V, D] to queries [V, H, d] and priors [V]."""
        flat = embeddings @ self.query_weight.T + self.query_bias
        queries = flat.view(len(embeddings), self.heads, -1)
        return queries, embeddings @ self.prior_weight + self.prior_bias

    @torch.no_grad()
    def frames(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [T, D] to keys [H, T, d] and scalar values [H, T]."""
        flat = audio @ self.key_weight.T
        split = (len(audio), self.heads, flat.shape[1] // self.heads)
        keys = flat.view(split).transpose(0, 1).contiguous()
        values = (audio @ self.value_weight.T + self.value_bias).T.contiguous()
        return keys, values

    def to(self, device: torch.device) -> FoldedHead:
        """The same head on a device."""
        tensors = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return FoldedHead(heads=self.heads, **tensors)


@torch.no_grad()
def fold(module: AttentionRetriever) -> FoldedHead:
    """Fold a trained head; computed in float64, returned as float32."""
    config = module.config
    width, heads = config.width, config.heads
    state = {name: value.double() for name, value in module.state_dict().items()}
    in_weight = state["audio_word_att.attn.in_proj_weight"]
    in_bias = state["audio_word_att.attn.in_proj_bias"]
    query_in, key_in, value_in = in_weight.split(width)
    query_bias, _, value_bias = in_bias.split(width)

    row = state["audio_word_proj.weight"][1] - state["audio_word_proj.weight"][0]
    constant = state["audio_word_proj.bias"][1] - state["audio_word_proj.bias"][0]
    if config.fc:
        constant = constant + row @ state["audio_word_fc.bias"]
        row = row @ state["audio_word_fc.weight"]
    # Concatenation puts the attended values first, the term's own tokens second.
    attended_row, token_row = row.split(width) if config.merge == "fc" else (row, row)

    out_row = attended_row @ state["audio_word_att.attn.out_proj.weight"]  # [D]
    constant = constant + attended_row @ state["audio_word_att.attn.out_proj.bias"]
    per_head = out_row.view(heads, -1)  # [H, d]
    time_weight, time_bias = state["time_words_proj.weight"], state["time_words_proj.bias"]
    scale = math.log2(math.e) / math.sqrt(width // heads)
    folded = FoldedHead(
        heads=heads,
        query_weight=scale * query_in @ time_weight,
        query_bias=scale * (query_in @ time_bias + query_bias),
        key_weight=key_in,
        value_weight=torch.einsum("hd,hdw->hw", per_head, value_in.view(heads, -1, width)),
        value_bias=(per_head * value_bias.view(heads, -1)).sum(1),
        prior_weight=token_row @ time_weight,
        prior_bias=constant + token_row @ time_bias,
    )
    tensors = {
        name: value.float() for name, value in vars(folded).items() if isinstance(value, Tensor)
    }
    return FoldedHead(heads=heads, **tensors)
