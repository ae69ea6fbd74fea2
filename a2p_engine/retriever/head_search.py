"""The A2P head alone: whole utterances searched for terms that no phoneme head is needed for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.errors import InputError, ModelError
from a2p_engine.ops import term_score
from a2p_engine.retriever.attention import AttentionRetriever
from a2p_engine.retriever.folded import fold
from a2p_engine.retriever.term_scorer import Chunk, TermScorer
from a2p_engine.retriever.token_spellings import Tokenize
from a2p_engine.retriever.token_table import TokenTable

FloatArray = npt.NDArray[np.float32]


class Ranked(NamedTuple):
    """The k most probable of N terms, most probable first.

    Attributes:
        places: int [k] among the terms.
        probabilities: [k] that the head gives; nothing has calibrated them.
    """

    places: npt.NDArray[np.int64]
    probabilities: FloatArray


class HeadSearch:
    """N terms, each scored by the head as it was trained: prior and audio together."""

    def __init__(
        self,
        head: AttentionRetriever,
        terms: Sequence[str],
        *,
        embeddings: Tensor,
        tokenize: Tokenize,
        device: torch.device | str = "cpu",
    ) -> None:
        """Make a list of terms ready; repeats are scored as often as they come.

        Args:
            head: trained.
            terms: N terms.
            embeddings: [V, D] token embedding table of the speech LLM.
            tokenize: texts to token ids in its vocabulary.
            device: where to score.

        Raises:
            ModelError: head and embeddings are not equally wide.
            InputError: a term has no token.
        """
        if embeddings.shape[1] != head.config.width:
            raise ModelError(
                f"the A2P head is {head.config.width} wide and was trained for another speech LLM: "
                f"embeddings here are {embeddings.shape[1]} wide"
            )
        ids = tokenize([f" {term}" for term in terms])
        if empty := [term for term, tokens in zip(terms, ids, strict=True) if not tokens]:
            raise InputError(f"the speech LLM has no token for the term {empty[0]!r}")
        self._device = torch.device(device)
        folded = fold(head).to(self._device)
        self._table = TokenTable(folded, embeddings, device=self._device)
        self._scorer = TermScorer(folded, self._table)
        flat = np.fromiter((token for tokens in ids for token in tokens), np.int32)
        self._rows = torch.from_numpy(self._table.rows(flat)).to(self._device)
        ends = [0, *accumulate(map(len, ids))]
        self._offsets = torch.tensor(ends, dtype=torch.int32, device=self._device)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @torch.no_grad()
    def logits(self, frames: FloatArray) -> FloatArray:
        """Logits [N] that each term was said in frames [T, D] at 25 Hz."""
        chunk = Chunk(self._scorer.start(), torch.from_numpy(frames).to(self._device), 0)
        tokens = self._scorer.hear([chunk]) + self._table.priors
        out = tokens.new_empty(1, len(self))
        term_score.pool(tokens, self._rows, self._offsets, tokens.new_zeros(len(self)), out)
        return np.asarray(out[0].cpu().numpy(), np.float32)


def ranked(logits: FloatArray, k: int) -> Ranked:
    """The k largest of [N] logits; of equal ones the first in the list."""
    places = np.argsort(-logits, kind="stable")[:k]
    return Ranked(places, (1 / (1 + np.exp(-logits[places].astype(np.float64)))).astype(np.float32))
