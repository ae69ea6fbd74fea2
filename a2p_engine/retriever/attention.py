"""The A2P head in its dense, trainable form, with the state-dict names of the released checkpoints.

Source of the method: Du et al. 2025, "Attention2Probability" (arXiv 2508.18701), section 3.
This form materialises the attention of every term over every frame. It is for training and as the
reference; serving uses the folded form, which computes the same numbers hundreds of times cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

MergeType = Literal["add", "fc"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Shape of the A2P head.

    Attributes:
        width: D, width of frames and of token embeddings.
        heads: H, attention heads; must divide ``width``.
        merge: how attended values meet the term's own tokens: ``add`` sums them, ``fc``
            concatenates them before ``audio_word_fc``.
        fc: whether ``audio_word_fc`` maps the merged vector before classification.
        dropout: dropout on attention weights while training.
    """

    width: int
    heads: int
    merge: MergeType = "add"
    fc: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.merge == "fc" and not self.fc:
            raise ValueError("merge 'fc' concatenates and needs fc=True to map back to the width")


class _WordAttention(nn.Module):
    """Holds the attention under the name ``attn`` that the released checkpoints use."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(
            config.width, config.heads, dropout=config.dropout, batch_first=True
        )


class AttentionRetriever(nn.Module):
    """Cross-attention from the tokens of every term to the audio frames, then two classes."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.audio_word_att = _WordAttention(config)
        self.time_words_proj = nn.Linear(width, width)
        if config.fc:
            self.audio_word_fc = nn.Linear(2 * width if config.merge == "fc" else width, width)
        self.audio_word_proj = nn.Linear(width, 2)

    def token_logits(self, embeddings: Tensor, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """Class logits of single tokens, before terms are pooled.

        A query depends on its token alone, so a term's logits are the mean of its tokens' logits;
        callers that share tokens between terms (training) compute each token once.

        Args:
            embeddings: [V, D] rows of the speech LLM's token embedding table.
            audio: [B, T, D] frames.
            audio_mask: [B, T], non-zero where a frame is real.

        Returns:
            [B, V, 2] logits; class 1 means "spoken".
        """
        batch = audio.shape[0]
        queries = self.time_words_proj(embeddings)  # [V, D]
        tiled = queries.expand(batch, -1, -1)  # [B, V, D]
        attended, _ = self.audio_word_att.attn(
            tiled, audio, audio, key_padding_mask=audio_mask == 0, need_weights=False
        )  # [B, V, D]
        if self.config.merge == "fc":
            merged = torch.cat([attended, tiled], dim=-1)  # [B, V, 2D]
        else:
            merged = attended + tiled
        if self.config.fc:
            merged = self.audio_word_fc(merged)
        logits: Tensor = self.audio_word_proj(merged)
        return logits

    def forward(
        self,
        token_embeddings: Tensor,
        term_token_ids: Tensor,
        term_token_mask: Tensor,
        audio: Tensor,
        audio_mask: Tensor,
    ) -> Tensor:
        """Log-probabilities that each term was not / was spoken.

        Args:
            token_embeddings: [V, D] embedding table.
            term_token_ids: [N, L] rows of the table, padded arbitrarily.
            term_token_mask: [N, L], non-zero where a token is real.
            audio: [B, T, D] frames.
            audio_mask: [B, T], non-zero where a frame is real.

        Returns:
            [B, N, 2] log-probabilities.
        """
        terms, length = term_token_ids.shape
        logits = self.token_logits(
            token_embeddings[term_token_ids.reshape(-1)], audio, audio_mask
        )  # [B, N*L, 2]
        mask = term_token_mask.to(logits.dtype)[None, :, :, None]  # [1, N, L, 1]
        pooled = (logits.view(-1, terms, length, 2) * mask).sum(2) / mask.sum(2)
        return torch.log_softmax(pooled, dim=-1)
