"""The A2P head for sessions that ask from threads of their own, joined into one pass where it pays.

A pass loads every query once, whatever the number of sessions. On a GPU that is most of its cost,
so sessions that ask while another pass runs go together in the next. On a CPU it is next to nothing
(docs/scorer.md), so each goes alone and beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from a2p_engine.batching import Batcher
from a2p_engine.retriever.term_scorer import Chunk, Hearing, TermScorer

CUDA_SESSIONS = 64


class _Request(NamedTuple):
    """New frames of a session, and where its gain may be written to."""

    chunk: Chunk
    gain: Tensor | None


class JointScorer:
    """A ``TermScorer`` that is asked for one session at a time, from any number of threads."""

    def __init__(self, scorer: TermScorer, *, sessions: int | None = None) -> None:
        """Share a scorer.

        Args:
            scorer: called by nobody else.
            sessions: most of them in a pass; None is 1 on CPU and ``CUDA_SESSIONS`` on CUDA.
        """
        on_cuda = scorer.table.queries.device.type == "cuda"
        limit = sessions or (CUDA_SESSIONS if on_cuda else 1)
        self._scorer = scorer
        # A pass that failed may have settled frames, which must not be heard twice.
        self._hear = Batcher(self._hear_all, limit=limit, retry=False)

    def start(self) -> Hearing:
        """A segment that has heard nothing."""
        return self._scorer.start()

    def hear(self, chunk: Chunk, gain: Tensor | None = None) -> Tensor:
        """Take new frames in; returns the [1, K * W] gain, see ``TermScorer.hear``."""
        return self._hear(_Request(chunk, gain))

    def _hear_all(self, requests: Sequence[_Request]) -> Sequence[Tensor]:
        if len(requests) == 1:
            return [self._scorer.hear([requests[0].chunk], requests[0].gain)]
        gains = self._scorer.hear([request.chunk for request in requests])
        return [gains[at : at + 1] for at in range(len(requests))]
