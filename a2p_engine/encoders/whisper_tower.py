"""Whisper's encoder in transformers, on windows as long as their audio.

The library takes windows of 30 s alone. Attention and convolutions take any length; positions are
the first ones of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def tower_states(
    tower: Any, mel: Tensor, counts: Sequence[int], longest: int | None = None
) -> Tensor:
    """States of Whisper's encoder, or of one built like it, before its last normalisation.

    Args:
        tower: the module, with the names that transformers gives its parts.
        mel: [B, mels, M], 100 a second.
        counts: states of each window, 50 a second; nothing looks behind them.
        longest: how many states to make, S; None makes those of the longest window.

    Returns:
        [B, S, D]; rows behind a window's end are of silence.
    """
    longest = max(counts) if longest is None else longest
    states: Tensor = nn.functional.gelu(tower.conv1(mel))
    states = nn.functional.gelu(tower.conv2(states)).transpose(1, 2)[:, :longest]
    states = states + tower.embed_positions.weight[:longest]
    mask = _mask(counts, states) if min(counts) < longest else None
    for layer in tower.layers:
        states = layer(states, mask)
    return states


def _mask(counts: Sequence[int], states: Tensor) -> Tensor:
    """Added to attention scores [B, 1, 1, S]."""
    places = torch.arange(states.shape[1], device=states.device)
    ends = torch.tensor(counts, device=states.device)
    mask = torch.zeros(len(counts), states.shape[1], dtype=states.dtype, device=states.device)
    # An empty window would have nothing to look at, and its numbers would spread as NaN.
    mask.masked_fill_(places >= ends[:, None].clamp_min(1), torch.finfo(states.dtype).min)
    return mask[:, None, None, :]
