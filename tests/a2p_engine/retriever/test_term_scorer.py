"""The incremental scorer: chunks, tails, windows, batches and a growing table change nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2p_engine.ops.term_score import State
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.term_scorer import Chunk, Hearing, TermScorer, Window
from a2p_engine.retriever.token_table import TokenTable

WIDTH, HEADS, VOCABULARY, FRAMES = 24, 3, 1300, 31  # six blocks of tokens
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def _head() -> FoldedHead:
    torch.manual_seed(7)
    module = AttentionRetriever(AttentionConfig(width=WIDTH, heads=HEADS)).eval()
    for parameter in module.parameters():  # biases start at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return fold(module)


HEAD = _head()
EMBEDDINGS = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(1))
AUDIO = torch.randn(FRAMES, WIDTH, generator=torch.Generator().manual_seed(2))


def _scorer(tokens: int = VOCABULARY) -> TermScorer:
    scorer = TermScorer(HEAD, TokenTable(HEAD, EMBEDDINGS))
    scorer.table.rows(np.arange(tokens))
    return scorer


def _feed(scorer: TermScorer, hearing: Hearing, low: int, high: int, tail: int = 0) -> torch.Tensor:
    return scorer.hear([Chunk(hearing, AUDIO[low : high + tail], high - low)])


SCORER = _scorer()
ONE_SHOT = _feed(SCORER, SCORER.start(), 0, FRAMES)


@given(cuts=st.sets(st.integers(1, FRAMES - 1)), tail=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_any_chunking_equals_one_shot(cuts: set[int], tail: int) -> None:
    """Settled in any chunks, with any provisional tail heard in between."""
    hearing, heard = SCORER.start(), 0
    for low, high in itertools.pairwise([0, *sorted(cuts), FRAMES]):
        ahead = _feed(SCORER, hearing, low, high, tail)
        heard = min(high + tail, FRAMES)
    torch.testing.assert_close(ahead, ONE_SHOT, **CLOSE)
    assert heard == FRAMES
    assert hearing.settled_frames == FRAMES
    nothing_new = SCORER.hear([Chunk(hearing, AUDIO[:0], 0)])
    torch.testing.assert_close(nothing_new, ONE_SHOT, **CLOSE)


@given(order=st.permutations(range(5)), split=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_merging_is_associative_and_order_independent(order: list[int], split: int) -> None:
    """States over disjoint frames merge in any order and grouping, empty ones included."""
    parts = []
    for low, high in itertools.pairwise([0, 6, 6, 13, 20, FRAMES]):
        hearing = SCORER.start()
        _feed(SCORER, hearing, low, high)
        parts.append(hearing.state)
    shuffled = [parts[place] for place in order]
    left, right = _merged(shuffled[:split]), _merged(shuffled[split:][::-1])
    gain = left.merge(right).mean.sum(1).view(1, -1)
    torch.testing.assert_close(gain, ONE_SHOT, **CLOSE)


def _merged(states: list[State]) -> State:
    total = states[0]
    for state in states[1:]:
        total = total.merge(state)
    return total


def test_two_empty_states_merge_into_an_empty_one() -> None:
    """No NaN comes of infinities meeting."""
    table = SCORER.table
    merged = table.new_state(1).merge(table.new_state(1))
    assert bool(merged.lse.isneginf().all()) and float(merged.mean.abs().max()) == 0.0


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=9),
    limit=st.integers(5, 14),
    tail=st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_a_window_equals_recomputing_it(sizes: list[int], limit: int, tail: int) -> None:
    """After every chunk the read-out is that of the chunks that still fit, and the tail."""
    hearing, edges = SCORER.start(window_frames=limit), [0]
    for size in sizes:
        edges.append(min(edges[-1] + size, FRAMES))
        gain = _feed(SCORER, hearing, edges[-2], edges[-1], tail)
        kept = [e for e in edges if edges[-1] - e <= limit]
        expected = _feed(SCORER, SCORER.start(), kept[0], edges[-1], tail)
        torch.testing.assert_close(gain, expected, **CLOSE)
    assert hearing.settled_frames <= limit


def test_a_chunk_longer_than_its_window_is_refused() -> None:
    """The error names both lengths."""
    with pytest.raises(ValueError, match="a chunk of 9 frames is longer than 8"):
        Window(8).push(SCORER.table.new_state(1), 9)


@given(lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_sessions_of_different_lengths_do_not_disturb_each_other(
    lengths: list[tuple[int, int]],
) -> None:
    """A batch gives what each session gives alone, padding or not."""
    together, alone = ([SCORER.start() for _ in lengths] for _ in range(2))
    for begin in (0, 12):
        chunks = [(AUDIO[begin:][: min(s + t, 19)], min(s, 19)) for s, t in lengths]
        gain = SCORER.hear([Chunk(h, *c) for h, c in zip(together, chunks, strict=True)])
        for number, (hearing, chunk) in enumerate(zip(alone, chunks, strict=True)):
            single = SCORER.hear([Chunk(hearing, *chunk)])
            torch.testing.assert_close(gain[number], single[0], **CLOSE)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.state.mean, other.state.mean, **CLOSE)


@pytest.mark.parametrize("window", [None, 40])
def test_tokens_added_in_mid_segment_hear_what_was_settled(window: int | None) -> None:
    """A session's read-out is that of a session that had the tokens from the start."""
    scorer = _scorer(tokens=500)
    hearing = scorer.start(window)
    used = _feed(scorer, hearing, 0, 10)
    scorer.table.rows(np.arange(VOCABULARY)[::-1].copy())
    grown = scorer.hear([Chunk(hearing, AUDIO[10:17], 7)], used)
    assert used.shape[1] < grown.shape[1]
    assert scorer.hear([Chunk(hearing, AUDIO[:0], 0)], grown) is grown
    scorer.table.rows(np.arange(VOCABULARY))
    gain = _feed(scorer, hearing, 17, FRAMES)
    fresh = _feed(scorer, scorer.start(), 0, FRAMES)
    torch.testing.assert_close(gain, fresh, **CLOSE)


def test_the_table_holds_each_token_once() -> None:
    """Rows are shared, stay where they are, and an unknown token is refused."""
    table = TokenTable(HEAD, EMBEDDINGS)
    first = table.rows(np.array([[7, 9], [7, 3]]))
    assert table.rows(np.array([3, 9, 7])).tolist() == [first[1, 1], first[0, 1], first[0, 0]]
    assert table.size == 3 and table.blocks == 1
    assert table.nbytes == 256 * (4 * WIDTH + 4)
    with pytest.raises(IndexError):
        table.rows(np.array([VOCABULARY]))


def test_a_bfloat16_table_is_half_as_large_and_nearly_as_good() -> None:
    """Queries lose bits; scores stay close."""
    table = TokenTable(HEAD, EMBEDDINGS, dtype=torch.bfloat16)
    scorer = TermScorer(HEAD, table)
    table.rows(np.arange(VOCABULARY))
    assert table.nbytes < 0.6 * SCORER.table.nbytes
    gain = _feed(scorer, scorer.start(), 0, FRAMES)
    assert float((gain - ONE_SHOT).abs().max()) < 0.1 * float(ONE_SHOT.std()) + 0.3
