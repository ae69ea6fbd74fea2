"""The folded, incremental head against the dense one it was folded from."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever, MergeType
from a2p_engine.retriever.folded import fold
from a2p_engine.retriever.incremental import AttentionState, pool_terms

WIDTH, HEADS, TOKENS, FRAMES = 24, 3, 17, 23
FORMS: list[tuple[MergeType, bool]] = [("add", True), ("add", False), ("fc", True)]


def _dense(merge: MergeType, fc: bool) -> AttentionRetriever:
    torch.manual_seed(7)
    config = AttentionConfig(width=WIDTH, heads=HEADS, merge=merge, fc=fc)
    module = AttentionRetriever(config).eval()
    for parameter in module.parameters():  # biases start at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def _problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(TOKENS, WIDTH, generator=generator)
    ids = torch.randint(0, TOKENS, (11, 4), generator=generator)
    lengths = torch.randint(1, 5, (11, 1), generator=generator)
    mask = (torch.arange(4)[None] < lengths).float()
    return embeddings, ids, mask, torch.randn(FRAMES, WIDTH, generator=generator)


@pytest.mark.parametrize(("merge", "fc"), FORMS)
@given(cuts=st.sets(st.integers(1, FRAMES - 1)))
@settings(max_examples=20, deadline=None)
def test_any_chunking_equals_the_dense_head(merge: MergeType, fc: bool, cuts: set[int]) -> None:
    """Frames fed in any chunks give the dense head's probability."""
    module = _dense(merge, fc)
    embeddings, ids, mask, frames = _problem()
    with torch.no_grad():
        dense = module(embeddings, ids, mask, frames[None], torch.ones(1, FRAMES))[0, :, 1]
    head = fold(module)
    queries, priors = head.tokens(embeddings)
    state = AttentionState.empty(HEADS, TOKENS)
    edges = [0, *sorted(cuts), FRAMES]
    for low, high in itertools.pairwise(edges):
        state = state.merge(AttentionState.of(queries, *head.frames(frames[low:high])))
    real = mask.bool()
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), real.sum(1).cumsum(0)])
    logits = pool_terms(state.gain() + priors, ids[real], offsets)
    torch.testing.assert_close(torch.nn.functional.logsigmoid(logits), dense, atol=1e-4, rtol=0)


def test_merge_is_associative_with_empty_as_neutral_element() -> None:
    """States over disjoint frames can be merged in any grouping, empty ones included."""
    head = fold(_dense("add", True))
    embeddings, _, _, frames = _problem()
    queries, _ = head.tokens(embeddings)
    a, b, c = (AttentionState.of(queries, *head.frames(frames[i : i + 7])) for i in (0, 7, 14))
    empty = AttentionState.empty(HEADS, TOKENS)
    left, right = a.merge(b).merge(c), empty.merge(a).merge(b.merge(c.merge(empty)))
    torch.testing.assert_close(left.gain(), right.gain())
    assert empty.merge(empty).gain().abs().max() == 0.0


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    """The error names both numbers."""
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        AttentionConfig(width=10, heads=3)
