"""Sessions scored from threads of their own: in one pass, with the gain each would have alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.folded import fold
from a2p_engine.retriever.joint_scorer import JointScorer
from a2p_engine.retriever.term_scorer import Chunk, Hearing, TermScorer
from a2p_engine.retriever.token_table import TokenTable
from tests.a2p_engine.test_batching import until

WIDTH, TOKENS = 24, 600
LENGTHS = ((12, 0), (7, 7), (9, 4))  # new frames, and how many of them are settled
AUDIO = torch.randn(3, 12, WIDTH, generator=torch.Generator().manual_seed(5))


class SlowScorer(TermScorer):
    """Notes its passes; the first waits until it may go on, and those told to fail do."""

    def __init__(self, device: str = "cpu") -> None:
        torch.manual_seed(3)
        head = fold(AttentionRetriever(AttentionConfig(width=WIDTH, heads=3)).eval()).to(device)
        super().__init__(head, TokenTable(head, torch.randn(TOKENS, WIDTH), device=device))
        self.table.rows(np.arange(TOKENS))
        self.passes: list[int] = []
        self.gate = threading.Event()
        self.broken = False

    def hear(self, chunks: Sequence[Chunk], gain: Tensor | None = None) -> Tensor:
        """See ``TermScorer``."""
        self.passes.append(len(chunks))
        if len(self.passes) == 1:
            assert self.gate.wait(10)
        heard = super().hear(chunks, gain)
        if self.broken and len(chunks) > 1:
            raise RuntimeError("out of memory")
        return heard


def beside(
    joint: JointScorer, scorer: SlowScorer, hearings: Sequence[Hearing], pool: ThreadPoolExecutor
) -> list[Future[Tensor]]:
    """One call for each session while the pass of another one runs; returns when all wait."""
    audio = AUDIO.to(scorer.table.queries.device)
    first = pool.submit(joint.hear, Chunk(scorer.start(), audio[0], 0))
    until(lambda: bool(scorer.passes))
    calls = [
        pool.submit(joint.hear, Chunk(hearing, frames[:count], settled))
        for hearing, frames, (count, settled) in zip(hearings, audio, LENGTHS, strict=True)
    ]
    until(lambda: len(joint._hear._waiting) == len(hearings))
    scorer.gate.set()
    first.result(10)
    return calls


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_waiting_sessions_share_a_pass_and_hear_what_each_hears_alone(device: str) -> None:
    """Gains and what is settled are those of a pass for each."""
    scorer, alone = SlowScorer(device), SlowScorer(device)
    alone.gate.set()
    hearings = [scorer.start() for _ in LENGTHS]
    with ThreadPoolExecutor(4) as pool:
        calls = beside(JointScorer(scorer, sessions=4), scorer, hearings, pool)
        gains = [call.result(10) for call in calls]
    assert scorer.passes == [1, 3]
    for gain, hearing, frames, (count, settled) in zip(
        gains, hearings, AUDIO.to(device), LENGTHS, strict=True
    ):
        single = alone.start()
        expected = alone.hear([Chunk(single, frames[:count], settled)])
        torch.testing.assert_close(gain, expected, atol=2e-4 if device == "cuda" else 2e-5, rtol=0)
        assert hearing.settled_frames == single.settled_frames == settled


def test_a_gain_of_a_shared_pass_is_the_sessions_own() -> None:
    """It can be written to again, and the others' stay as they are."""
    scorer = SlowScorer()
    joint = JointScorer(scorer, sessions=4)
    hearings = [scorer.start() for _ in LENGTHS]
    with ThreadPoolExecutor(4) as pool:
        gains = [call.result(10) for call in beside(joint, scorer, hearings, pool)]
    others = [gain.clone() for gain in gains[1:]]
    again = joint.hear(Chunk(hearings[0], AUDIO[1], 0), gains[0])
    assert again.data_ptr() == gains[0].data_ptr()
    for gain, before in zip(gains[1:], others, strict=True):
        torch.testing.assert_close(gain, before, atol=0, rtol=0)


def test_frames_of_a_pass_that_failed_are_not_heard_again() -> None:
    """The pass may have settled them, so every session of it is told, and nothing is tried anew."""
    scorer = SlowScorer()
    scorer.broken = True
    hearings = [scorer.start() for _ in LENGTHS]
    with ThreadPoolExecutor(4) as pool:
        calls = beside(JointScorer(scorer, sessions=4), scorer, hearings, pool)
        for call in calls:
            with pytest.raises(RuntimeError, match="out of memory"):
                call.result(10)
    assert scorer.passes == [1, 3]
    assert [hearing.settled_frames for hearing in hearings] == [count for _, count in LENGTHS]


def test_on_a_cpu_sessions_go_alone() -> None:
    """Nothing is won there by waiting for one another."""
    scorer = SlowScorer()
    joint = JointScorer(scorer)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(joint.hear, Chunk(scorer.start(), AUDIO[0], 0))
        until(lambda: bool(scorer.passes))
        joint.hear(Chunk(scorer.start(), AUDIO[1], 0))
        scorer.gate.set()
        waiting.result(10)
    assert scorer.passes == [1, 1]
