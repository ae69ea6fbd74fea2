"""Whisper's decoder through transformers, behind the interface that CTranslate2's has.

``WhisperSpeechLLM`` asks for text, for the place of each token and for the language; it gets the
same answers from either library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration

from a2p_engine.errors import ModelError
from a2p_engine.trace import Trace

START = "<|startoftranscript|>"
END = "<|endoftext|>"
NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
NO_TIMESTAMPS = "<|notimestamps|>"
FILTER_WIDTH = 7  # of the median over attention weights, as published with Whisper


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """As CTranslate2's ``WhisperGenerationResult``.

    Attributes:
        sequences_ids: the tokens behind <|notimestamps|>, in a list of one.
        scores: log-probability of the new ones over the text's length, in a list of one.
        no_speech_prob: probability that nobody speaks.
        logits: [vocabulary] of each of those tokens and of the end, in a list of one; or none.
    """

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float
    logits: list[list[npt.NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Aligned:
    """As CTranslate2's ``WhisperAlignmentResult``.

    Attributes:
        alignments: pairs of (token, 20 ms frame), the way through both.
        text_token_probs: probability of each token.
    """

    alignments: list[tuple[int, int]]
    text_token_probs: list[float]


class WhisperDecoder:
    """Text, places and language of encoded windows, [B, T, D]; one caller at a time."""

    def __init__(
        self, model: WhisperForConditionalGeneration, tokenizer: Tokenizer, trace: Trace
    ) -> None:
        """Share a loaded model.

        Args:
            model: with eager attention.
            tokenizer: its tokenizer.
            trace: counts what is done.
        """
        self._decoder: Any = model.model.decoder
        self._head: Any = model.proj_out
        self._config: Any = model.config
        self._trace = trace
        self._start, self._end, self._plain = (
            _special(tokenizer, name) for name in (START, END, NO_TIMESTAMPS)
        )
        known = (tokenizer.token_to_id(name) for name in NO_SPEECH)
        self._no_speech = next(token for token in known if token is not None)
        codes = {f"<|{code}|>" for code in _LANGUAGE_CODES}
        named = {tokenizer.id_to_token(token): token for token in range(self._start, self._plain)}
        self._languages = {name: token for name, token in named.items() if name in codes}

    @torch.inference_mode()
    def generate(
        self,
        native: Tensor,
        prompts: Sequence[Sequence[int]],
        *,
        max_length: int,
        return_logits_vocab: bool = False,
        **_: Any,
    ) -> list[Generated]:
        """Continue each prompt greedily.

        Args:
            native: [B, T, D].
            prompts: tokens to go on from.
            max_length: of all tokens; CTranslate2 leaves at most half of them to the text, forced
                beginning included, and so does this.
            return_logits_vocab: whether the answers have logits.
        """
        rows = _Rows(self, native, prompts)
        silent = self._silence(rows, prompts)
        begins = [list(prompt).index(self._plain) + 1 for prompt in prompts]
        limits = [
            min(max_length // 2, max_length - begin) - (len(prompt) - begin)
            for prompt, begin in zip(prompts, begins, strict=True)
        ]
        written: list[list[int]] = [[] for _ in prompts]
        sums = [0.0] * len(prompts)
        logits = [
            list(row[rows.width - len(prompt) + begin - 1 : -1].cpu().numpy())
            for row, prompt, begin in zip(rows.logits, prompts, begins, strict=True)
        ]
        going = [at for at, limit in enumerate(limits) if limit > 0]
        while going:
            log_probs = self._allowed(rows.logits[:, -1], first=not any(written)).log_softmax(-1)
            best = log_probs.max(-1)
            tokens = best.indices.tolist()
            for at in going:
                sums[at] += float(best.values[at])
                if return_logits_vocab:
                    logits[at].append(rows.logits[at, -1].cpu().numpy())
            going = [at for at in going if tokens[at] != self._end]
            for at in going:
                written[at].append(tokens[at])
            going = [at for at in going if len(written[at]) < limits[at]]
            if going:
                rows.add(best.indices[:, None])
                self._trace.decoded_tokens += len(going)
        texts = [
            [*prompt[begin:], *new]
            for prompt, begin, new in zip(prompts, begins, written, strict=True)
        ]
        return [
            Generated(
                sequences_ids=[text],
                scores=[total / max(1, len(text))],
                no_speech_prob=quiet,
                logits=[each] if return_logits_vocab else [],
            )
            for text, total, quiet, each in zip(texts, sums, silent, logits, strict=True)
        ]

    def _silence(self, rows: _Rows, prompts: Sequence[Sequence[int]]) -> list[float]:
        """Probability that nobody speaks, told where the transcript starts."""
        places = [rows.width - len(prompt) + list(prompt).index(self._start) for prompt in prompts]
        return [
            float(rows.logits[at, place].softmax(-1)[self._no_speech])
            for at, place in enumerate(places)
        ]

    def _allowed(self, logits: Tensor, *, first: bool) -> Tensor:
        """[B, vocabulary] without symbols that are not spoken, and with something to begin with."""
        logits = logits.clone()
        logits[:, self._config.suppress_tokens] = -torch.inf
        if first:
            logits[:, self._config.begin_suppress_tokens] = -torch.inf
        return logits

    @torch.inference_mode()
    def align(
        self,
        native: Tensor,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        frames: Sequence[int],
    ) -> list[Aligned]:
        """Lay texts along what was heard, by dynamic time warping over cross-attention.

        Args:
            native: [B, T, D].
            start: tokens before <|notimestamps|>.
            texts: tokens of each window.
            frames: 10 ms frames of each window that count.
        """
        return [
            self._align(native[at : at + 1], start, text, count // 2)
            for at, (text, count) in enumerate(zip(texts, frames, strict=True))
        ]

    def _align(
        self, native: Tensor, start: Sequence[int], text: Sequence[int], frames: int
    ) -> Aligned:
        tokens = [*start, self._plain, *text, self._end]
        rows = _Rows(self, native, [tokens], attentions=True)
        self._trace.scored_tokens += len(tokens)
        chances = rows.logits[0, len(start) : -2, : self._end].softmax(-1)
        at = torch.tensor(list(text), device=chances.device)
        weights = torch.stack(
            [rows.attentions[layer][0, head] for layer, head in self._config.alignment_heads]
        ).float()[..., :frames]  # [heads, L, T]
        weights = weights / weights.sum(-1, keepdim=True)
        spread, mean = torch.std_mean(weights, dim=-2, keepdim=True, unbiased=False)
        smooth = _median((weights - mean) / spread.clamp_min(1e-10))
        cost = -smooth.mean(0)[len(start) : -1]
        path = warp(cost.cpu().numpy().astype(np.float64))
        return Aligned(
            alignments=[(int(token), int(frame)) for token, frame in path],
            text_token_probs=chances.gather(1, at[:, None])[:, 0].tolist(),
        )

    @torch.inference_mode()
    def detect_language(self, native: Tensor) -> list[list[tuple[str, float]]]:
        """Languages of each window, most probable first."""
        rows = _Rows(self, native, [[self._start]] * len(native))
        ids = list(self._languages.values())
        chances = rows.logits[:, -1, ids].softmax(-1)
        return [
            sorted(zip(self._languages, row.tolist(), strict=True), key=lambda pair: -pair[1])
            for row in chances
        ]


def _special(tokenizer: Tokenizer, name: str) -> int:
    token = tokenizer.token_to_id(name)
    if token is None:
        raise ModelError(f"the tokenizer has no {name}: it is not Whisper's")
    return int(token)


class _Rows:
    """Windows being written, each aligned to the right; ``logits`` are of the latest tokens."""

    def __init__(
        self,
        owner: WhisperDecoder,
        native: Tensor,
        prompts: Sequence[Sequence[int]],
        *,
        attentions: bool = False,
    ) -> None:
        self._owner, self._native = owner, native
        self._cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        self.width = max(map(len, prompts))
        device = native.device
        padded = [[owner._end] * (self.width - len(row)) + list(row) for row in prompts]
        real = torch.tensor(
            [[place >= self.width - len(row) for place in range(self.width)] for row in prompts]
        )
        self._mask = real.long().to(device)
        self._positions = (self._mask.cumsum(1) - 1).clamp_min(0)
        self.attentions: Sequence[Tensor] = ()
        owner._trace.prefilled_tokens += 0 if attentions else int(real.sum())
        self._forward(torch.tensor(padded, device=device), attentions)

    def add(self, tokens: Tensor) -> None:
        """One more token of each row, [B, 1]."""
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], dim=1)
        self._positions = self._positions[:, -1:] + 1
        self._forward(tokens, False)

    def _forward(self, tokens: Tensor, attentions: bool) -> None:
        output = self._owner._decoder(
            input_ids=tokens,
            attention_mask=self._mask,
            position_ids=self._positions,
            encoder_hidden_states=self._native,
            past_key_values=self._cache,
            use_cache=True,
            output_attentions=attentions,
        )
        self._owner._trace.forwards += 1
        self.attentions = output.cross_attentions or ()
        self.logits: Tensor = self._owner._head(output.last_hidden_state).float()


def _median(weights: Tensor) -> Tensor:
    """Median of neighbours along the last dimension: [heads, L, T]."""
    reach = min(FILTER_WIDTH // 2, weights.shape[-1] - 1)
    padded = nn.functional.pad(weights, (reach, reach), mode="reflect")
    found: Tensor = padded.unfold(-1, 2 * reach + 1, 1).median(-1).values
    return found


@numba.njit(nogil=True, cache=True)
def warp(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Cheapest way from the first cell to the last one, as the published timing code goes it.

    Args:
        cost: [L, T].

    Returns:
        int64 [steps, 2], row and column of each cell on the way.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    came = np.zeros((rows + 1, columns + 1), np.int8)
    total[0, 0] = 0.0
    came[0, :] = 2
    came[:, 0] = 1
    for column in range(1, columns + 1):
        for row in range(1, rows + 1):
            both = total[row - 1, column - 1]
            down, right = total[row - 1, column], total[row, column - 1]
            if both < down and both < right:
                best, step = both, 0
            elif down < both and down < right:
                best, step = down, 1
            else:
                best, step = right, 2
            total[row, column] = cost[row - 1, column - 1] + best
            came[row, column] = step
    path = np.empty((rows + columns, 2), np.int64)
    count, row, column = 0, int(rows), int(columns)
    while row > 0 or column > 0:
        path[count, 0], path[count, 1] = row - 1, column - 1
        count += 1
        step = came[row, column]
        row -= 1 if step != 2 else 0
        column -= 1 if step != 1 else 0
    return path[:count][::-1]
