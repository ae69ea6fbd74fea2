"""The A2P head's training: the folded loss is the dense head, whitening folds away, it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever, MergeType
from a2p_engine.retriever.retriever import pool
from a2p_engine.training.config import CurriculumConfig
from a2p_engine.training.retrieval_task import WhitenedHead, pool_frames, token_logits
from a2p_engine.training.terms import (
    TermSampler,
    joined_words,
    read_spoken_words,
    write_spoken_words,
)

WIDTH = 24
FORMS: list[tuple[MergeType, bool]] = [("add", True), ("add", False), ("fc", True)]


def _problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    return (
        torch.randn(7, WIDTH, generator=generator),
        torch.randn(2, 9, WIDTH, generator=generator),
        mask,
    )


@pytest.mark.parametrize(("merge", "fc"), FORMS)
def test_folded_logits_and_gradients_are_the_dense_ones(merge: MergeType, fc: bool) -> None:
    """Both forms say the same and pull the weights the same way."""
    torch.manual_seed(5)
    head = AttentionRetriever(AttentionConfig(width=WIDTH, heads=3, merge=merge, fc=fc))
    embeddings, frames, mask = _problem()
    gradients = []
    dense = head.token_logits(embeddings, frames, mask)
    for logits in (
        dense[..., 1] - dense[..., 0],
        token_logits(head, embeddings, frames, mask)[0],
    ):
        head.zero_grad()
        logits.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in head.parameters()])
    torch.testing.assert_close(dense[..., 1] - dense[..., 0], logits, atol=1e-4, rtol=1e-4)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_an_exported_head_needs_no_whitening() -> None:
    """On raw inputs it gives what the whitened one gives, also with skewed statistics."""
    torch.manual_seed(6)
    whitened = WhitenedHead(AttentionConfig(width=WIDTH, heads=3))
    embeddings, frames, mask = _problem()
    skew = torch.randn(WIDTH, WIDTH) + torch.diag(torch.arange(1.0, WIDTH + 1))
    whitened.fit(torch.randn(500, WIDTH) @ skew + 3.0, 0.02 * torch.randn(300, WIDTH) - 0.1)
    for parameter in whitened.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    expected = whitened(embeddings, frames, mask)[0]
    found = token_logits(whitened.export(), embeddings, frames, mask)[0]
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize(("frames", "embeddings"), [(WIDTH + 1, WIDTH), (WIDTH, 5)])
def test_inputs_of_another_width_are_a_clear_error(frames: int, embeddings: int) -> None:
    """Of frames or of token embeddings; both widths are named."""
    whitened = WhitenedHead(AttentionConfig(width=WIDTH, heads=3))
    with pytest.raises(TrainingError, match=f"dimensions, the configuration's width is {WIDTH}"):
        whitened.fit(torch.randn(99, frames), torch.randn(99, embeddings))


def test_directions_that_were_never_seen_are_not_blown_up() -> None:
    """A few frames of a small set leave most of them without variance."""
    whitened = WhitenedHead(AttentionConfig(width=WIDTH, heads=3))
    few = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    whitened.fit(few, torch.randn(99, WIDTH))
    assert float(torch.linalg.matrix_norm(whitened.frame_map, 2)) < 50
    spread = torch.cov(((few - few.mean(0)) @ whitened.frame_map).T)
    assert float(torch.linalg.matrix_norm(spread, 2)) == pytest.approx(1.0, abs=0.05)


def test_training_goes_on_from_a_trained_head() -> None:
    """Behind any whitening it gives what it gave, and comes out as it went in."""
    torch.manual_seed(8)
    config = AttentionConfig(width=WIDTH, heads=3, fc=False)
    plain, whitened = AttentionRetriever(config), WhitenedHead(config)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    skew = torch.randn(WIDTH, WIDTH) + torch.diag(torch.arange(1.0, WIDTH + 1))
    whitened.fit(torch.randn(500, WIDTH) @ skew + 3.0, 0.02 * torch.randn(300, WIDTH) - 0.1)
    whitened.adopt(plain)
    inputs = _problem()
    found = whitened(*inputs)[0]
    torch.testing.assert_close(found, token_logits(plain, *inputs)[0], atol=1e-3, rtol=1e-3)
    for name, value in whitened.export().state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(
        TrainingError, match=r"begin with is .*heads=4.* configuration is .*heads=3"
    ):
        whitened.adopt(AttentionRetriever(AttentionConfig(width=WIDTH, heads=4, fc=False)))


@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_training_pools_frames_as_the_retriever_does(length: int) -> None:
    """Also at odd lengths within a longer batch."""
    frames = torch.randn(2, 11, 5)
    pooled, mask = pool_frames(frames, torch.tensor([length, 11]))
    expected = pool(frames[0, :length].numpy())
    assert int(mask[0].sum()) == len(expected)
    np.testing.assert_allclose(pooled[0, : len(expected)].numpy(), expected, atol=1e-6)


def test_terms_are_words_first_and_phrases_later() -> None:
    """The curriculum, and each utterance's terms really are in it."""
    texts = [f"word{chr(97 + i)} other{chr(97 + i)} thing{chr(97 + i)}" for i in range(20)]
    sampler = TermSampler([*texts, "filler " * 10], ["voussoir"])
    curriculum = CurriculumConfig(rare_negatives=5, phrase_share=1.0)
    joined = [joined_words(text) for text in texts[:4]]
    early = sampler.draw(joined, curriculum, progress=0.0, seed=1)
    late = sampler.draw(joined, curriculum, progress=0.9, seed=1)
    assert all(" " not in term for term in early)
    phrases = [term for term in late if " " in term]
    assert phrases
    assert all(any(f" {p.lower()} " in text for text in joined) for p in phrases)
    assert early == sampler.draw(joined, curriculum, progress=0.0, seed=1)


def test_spoken_words_come_back(tmp_path: Path) -> None:
    """Written once, sorted, equal bytes for equal words."""
    path = tmp_path / "words.gz"
    write_spoken_words(path, ["The cat's hat", "a CAT"])
    first = path.read_bytes()
    assert read_spoken_words(path) == {"the", "cat's", "hat", "a", "cat"}
    write_spoken_words(path, ["a cat", "the cat's hat"])
    assert path.read_bytes() == first
