"""Greedy decoding of a transformers language model over rows that have a past of their own.

``generate`` of the library knows neither rows with different pasts nor a past that is kept for a
second decoding. Here a past, the keys and values of what was read so far, is a value: it can be
extended in several ways, and rows are stacked for one forward pass whatever their lengths.

Notation: B rows, T positions, H key-value heads, d head width, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from a2p_engine.trace import Trace


@dataclass(frozen=True, slots=True)
class Past:
    """What a row has read.

    Attributes:
        layers: keys and values of each layer, [H, T, d].
        length: T.
    """

    layers: tuple[tuple[Tensor, Tensor], ...] = ()
    length: int = 0

    def up_to(self, length: int) -> Past:
        """What it had read at an earlier position."""
        kept = tuple((keys[:, :length], values[:, :length]) for keys, values in self.layers)
        return Past(kept, length)


class _Rows:
    """Rows in one cache, each aligned to the right; what is left of them is masked."""

    def __init__(self, pasts: Sequence[Past], device: torch.device) -> None:
        self.cache = DynamicCache()
        self.lengths = torch.tensor([past.length for past in pasts], device=device)
        longest = max(past.length for past in pasts)
        self.mask = _right_aligned(self.lengths, longest)
        for number in range(max(len(past.layers) for past in pasts)):
            keys, values = (
                torch.stack([_layer(past, number, part, longest, pasts) for past in pasts])
                for part in (0, 1)
            )
            self.cache.update(keys, values, number)

    def add(self, counts: Tensor, width: int) -> Tensor:
        """Make room for new positions of each row; returns their numbers, [B, width]."""
        real = _right_aligned(counts, width)
        self.mask = torch.cat([self.mask, real], dim=1)
        positions = (real.cumsum(1) - 1 + self.lengths[:, None]).clamp_min(0)
        self.lengths = self.lengths + counts
        return positions

    def pasts(self) -> list[Past]:
        """The rows apart, without what was masked."""
        layers: Sequence[Any] = self.cache.layers
        return [
            Past(
                tuple((layer.keys[at, :, kept], layer.values[at, :, kept]) for layer in layers),
                len(kept),
            )
            for at, kept in enumerate(row.nonzero()[:, 0] for row in self.mask)
        ]


def _right_aligned(counts: Tensor, width: int) -> Tensor:
    """[B, width], one at the last ``counts`` places of each row."""
    return (torch.arange(width, device=counts.device) >= width - counts[:, None]).long()


def _layer(past: Past, number: int, part: int, width: int, pasts: Sequence[Past]) -> Tensor:
    """[H, width, d], zeros before the row's own keys or values."""
    if not past.layers:
        other = next(each.layers[number][part] for each in pasts if each.layers)
        return other.new_zeros(other.shape[0], width, other.shape[2])
    own = past.layers[number][part]
    return torch.nn.functional.pad(own, (0, 0, width - past.length, 0))


class GreedyDecoder:
    """The language model of a speech LLM; one caller at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        end_tokens: Collection[int],
        logits_scaling: float = 1.0,
        trace: Trace | None = None,
    ) -> None:
        """Take the parts of a loaded model.

        Args:
            model: has a decoder that takes ``inputs_embeds`` and a language modelling head.
            end_tokens: end a row.
            logits_scaling: what the head's output is divided by; matters to probabilities alone.
            trace: counts what is done.
        """
        parts: Any = model
        self._layers = parts.get_decoder()
        self._head = parts.get_output_embeddings()
        self._embeddings = parts.get_input_embeddings()
        self._end = sorted(end_tokens)
        self._logits_scaling = logits_scaling
        self.trace = trace or Trace()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self._embeddings.weight.device
        return device

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """The token embedding table, float32 [V, D]."""
        table: npt.NDArray[np.float32] = self._embeddings.weight.detach().float().cpu().numpy()
        return table

    @torch.inference_mode()
    def embed(self, tokens: Sequence[int]) -> Tensor:
        """Token ids to [T, D]."""
        ids = torch.tensor(list(tokens), dtype=torch.long, device=self.device)
        embedded: Tensor = self._embeddings(ids)
        return embedded

    @torch.inference_mode()
    def read(self, pasts: Sequence[Past], rows: Sequence[Tensor]) -> list[Past]:
        """Pasts after reading some more: [T, D] of each row."""
        stacked = _Rows(pasts, self.device)
        self._forward(stacked, rows)
        self.trace.prefilled_tokens += sum(map(len, rows))
        return stacked.pasts()

    @torch.inference_mode()
    def write(
        self, pasts: Sequence[Past], rows: Sequence[Tensor], limits: Sequence[int]
    ) -> list[list[int]]:
        """The likeliest token after each row, again and again.

        Args:
            pasts: what the rows have read.
            rows: [T, D], what they read before they write.
            limits: most tokens of each.

        Returns:
            Tokens of each row, without the one that ended it.
        """
        stacked = _Rows(pasts, self.device)
        hidden = self._forward(stacked, rows)
        self.trace.prefilled_tokens += sum(map(len, rows))
        written: list[list[int]] = [[] for _ in rows]
        going = [at for at, limit in enumerate(limits) if limit > 0]
        while going:
            chosen = self._head(hidden[:, -1]).argmax(-1)  # [B]
            tokens = chosen.tolist()
            going = [at for at in going if tokens[at] not in self._end]
            for at in going:
                written[at].append(tokens[at])
            going = [at for at in going if len(written[at]) < limits[at]]
            if going:
                hidden = self._forward(stacked, list(self._embeddings(chosen)[:, None]))
                self.trace.decoded_tokens += len(going)
        return written

    @torch.inference_mode()
    def score(
        self,
        pasts: Sequence[Past],
        rows: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
    ) -> list[list[float]]:
        """Probability of each token of a text that follows a row.

        Args:
            pasts: what the rows have read.
            rows: tokens that they read before the text; at least one.
            texts: the tokens in question.
        """
        if not pasts:  # nobody in the batch said anything
            return []
        stacked = _Rows(pasts, self.device)
        whole = [self.embed([*row, *text]) for row, text in zip(rows, texts, strict=True)]
        hidden = self._forward(stacked, whole)
        self.trace.scored_tokens += sum(map(len, whole))
        found: list[list[float]] = []
        for at, text in enumerate(texts):
            logits = self._head(hidden[at, -len(text) - 1 : -1]).float()  # [T, vocabulary]
            ids = torch.tensor(list(text), dtype=torch.long, device=self.device)
            logits = logits / self._logits_scaling
            found.append(logits.softmax(-1).gather(1, ids[:, None])[:, 0].tolist())
        return found

    def _forward(self, stacked: _Rows, rows: Sequence[Tensor]) -> Tensor:
        """[B, T, D] of new positions, aligned to the right."""
        width = max(map(len, rows))
        counts = torch.tensor([len(row) for row in rows], device=self.device)
        positions = stacked.add(counts, width)
        embedded = torch.stack(
            [torch.nn.functional.pad(row, (0, 0, width - len(row), 0)) for row in rows]
        )
        self.trace.forwards += 1
        output = self._layers(
            inputs_embeds=embedded,
            attention_mask=stacked.mask,
            position_ids=positions,
            past_key_values=stacked.cache,
            use_cache=True,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden
