"""The A2P head alone ranks a list of terms as its dense form does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from a2p_engine.errors import InputError, ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.head_search import HeadSearch, ranked

WIDTH = 24
EMBEDDINGS = torch.randn(128, WIDTH, generator=torch.Generator().manual_seed(1))
FRAMES = torch.randn(31, WIDTH, generator=torch.Generator().manual_seed(2))
TERMS = ["latte", "a", "drip", "flat white", "latte"]


def _tokenize(texts: Sequence[str]) -> list[list[int]]:
    return [list(text.removeprefix(" ").encode()) for text in texts]


@pytest.fixture
def head() -> AttentionRetriever:
    """Random numbers, biases included."""
    torch.manual_seed(7)
    module = AttentionRetriever(AttentionConfig(width=WIDTH, heads=3, fc=False)).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@torch.no_grad()
def test_probabilities_are_those_of_the_dense_head(head: AttentionRetriever) -> None:
    """What no audio changes included; a repeated term counts as often as it is listed."""
    ids = _tokenize(TERMS)
    length = max(map(len, ids))
    padded = torch.tensor([row + [0] * (length - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
    dense = head(EMBEDDINGS, padded, mask, FRAMES[None], torch.ones(1, len(FRAMES)))
    expected = dense[0, :, 1].exp().numpy()

    search = HeadSearch(head, TERMS, embeddings=EMBEDDINGS, tokenize=_tokenize)
    found = ranked(search.logits(FRAMES.numpy()), len(TERMS))
    np.testing.assert_allclose(found.probabilities, expected[found.places], atol=1e-5)
    assert list(found.places) == list(np.argsort(-expected, kind="stable"))
    assert len(search) == 5


def test_the_best_come_first_and_equals_in_order() -> None:
    """As many as are asked for, or as there are."""
    logits = np.array([0.0, 2.0, 0.0, -1.0], np.float32)
    assert list(ranked(logits, 3).places) == [1, 0, 2]
    assert list(ranked(logits, 9).places) == [1, 0, 2, 3]
    assert ranked(logits, 2).probabilities[1] == pytest.approx(0.5)


def test_what_does_not_fit_is_refused(head: AttentionRetriever) -> None:
    """A head of another width, and a term that the vocabulary cannot write."""
    with pytest.raises(ModelError, match=r"head is 24 wide .* embeddings here are 16 wide"):
        HeadSearch(head, TERMS, embeddings=torch.zeros(9, 16), tokenize=_tokenize)
    with pytest.raises(InputError, match="no token for the term ''"):
        HeadSearch(head, ["a", ""], embeddings=EMBEDDINGS, tokenize=_tokenize)
