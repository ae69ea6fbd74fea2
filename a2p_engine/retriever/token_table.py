"""One table of token queries for all glossaries of a speech LLM.

A query depends on its token alone, so glossaries share the rows of the tokens they have in common:
a glossary costs its distinct tokens, and all of them together at most one vocabulary.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.ops.term_score import State
from a2p_engine.retriever.folded import FoldedHead

# Tokens per block. On CPU a block's queries stay in a core's second-level cache while all sessions
# use them, and are many enough for the matrix product; on CUDA a block is the tile of one program.
BLOCK = {"cpu": 256, "cuda": 128}
ADDED_AT_ONCE = 8_192  # bounds the memory that computing queries takes besides the table


class TokenTable:
    """Queries and priors of the tokens in use; only ever grows, up to the vocabulary.

    Memory for the whole vocabulary is reserved at once but touched as rows are added, so that rows
    never move and a glossary can be added while others are being scored.

    Attributes:
        width: W, tokens per block.
        size: rows in use.
    """

    def __init__(
        self,
        head: FoldedHead,
        embeddings: Tensor,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """An empty table.

        Args:
            head: folded A2P head, on the device.
            embeddings: [vocabulary, D] token embedding table of the speech LLM, on any device.
            device: where the rows live.
            dtype: of the queries; None takes bfloat16 on CUDA and float32 on CPU.
        """
        self.device = torch.device(device)
        self.width = BLOCK.get(self.device.type, BLOCK["cpu"])
        self.size = 0
        self._head = head
        self._embeddings = embeddings
        self._row_of = np.full(len(embeddings), -1, np.int32)
        self._lock = threading.Lock()
        on_cuda = self.device.type == "cuda"
        blocks = -(-len(embeddings) // self.width)
        depth = embeddings.shape[1] // head.heads
        last = (self.width, depth) if on_cuda else (depth, self.width)
        dtype = dtype or (torch.bfloat16 if on_cuda else torch.float32)
        self._stored = _reserve((blocks, head.heads, *last), dtype, self.device)
        self._queries = self._stored.transpose(2, 3) if on_cuda else self._stored
        self._priors = torch.zeros(blocks * self.width, device=self.device)

    @property
    def blocks(self) -> int:
        """Blocks in use."""
        return -(-self.size // self.width)

    @property
    def vocabulary(self) -> int:
        """Tokens of the speech LLM, whether in use or not."""
        return len(self._row_of)

    @property
    def queries(self) -> Tensor:
        """[K, H, d, W] of the blocks in use, scaled for base-2 softmax; spare tokens are zero."""
        return self._queries[: self.blocks]

    @property
    def priors(self) -> Tensor:
        """[K * W], the part of each token's logit that no audio changes."""
        return self._priors[: self.blocks * self.width]

    @property
    def nbytes(self) -> int:
        """Bytes of queries and priors in use."""
        return self.blocks * (self._stored[0].nbytes + 4 * self.width)

    def rows(self, token_ids: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Rows of some tokens, added where they are new; thread-safe.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        with self._lock:
            found = self._row_of[token_ids]
            if (found < 0).any():
                new = np.unique(np.asarray(token_ids)[found < 0])
                for first in range(0, len(new), ADDED_AT_ONCE):
                    self._add(new[first : first + ADDED_AT_ONCE])
                found = self._row_of[token_ids]
        return np.asarray(found)

    def new_state(self, blocks: int) -> State:
        """The state of a session that has heard nothing, for so many blocks."""
        shape = (blocks, self._head.heads, self.width)
        return State(
            torch.full(shape, -torch.inf, device=self.device),
            torch.zeros(shape, device=self.device),
        )

    def _add(self, token_ids: npt.NDArray[np.integer]) -> None:
        embeddings = self._embeddings[torch.from_numpy(token_ids).long()]
        queries, priors = self._head.tokens(embeddings.float().to(self.device))
        rows = torch.arange(self.size, self.size + len(token_ids), device=self.device)
        block, lane = rows // self.width, rows % self.width
        self._queries[block, :, :, lane] = queries.to(self._stored.dtype)
        self._priors[rows] = priors
        self._row_of[token_ids] = rows.cpu().numpy()
        self.size += len(token_ids)


def _reserve(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; in main memory, pages that are never written stay the system's."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    count = int(np.prod(shape))
    return torch.from_numpy(np.zeros(count * dtype.itemsize, np.uint8)).view(dtype).view(shape)
