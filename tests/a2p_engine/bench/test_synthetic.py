"""Random models: attention neither uniform nor one-hot, frames that change slowly."""

from __future__ import annotations

import pytest
import torch

from a2p_engine.bench.presets import Preset
from a2p_engine.bench.synthetic import CORRELATION, SCORE_BITS, Model, score_bits

TINY = Preset(name="tiny", width=64, heads=4, vocabulary=3_000)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Model:
    """A small one."""
    return Model.random(TINY, CPU, seed=1)


@torch.no_grad()
def test_attention_rests_on_some_of_the_frames(model: Model) -> None:
    """Logits spread as wanted; a softmax over 30 s rests on several frames, not on all."""
    bits = score_bits(model.head, model.embeddings[1_000:1_500], model.recording)
    assert bits == pytest.approx(SCORE_BITS, rel=0.1)
    queries, _ = model.head.tokens(model.embeddings[:500].float())
    keys, _ = model.head.frames(model.recording[:750])
    weights = torch.softmax(torch.einsum("vhd,htd->vht", queries, keys) * 0.693, dim=2)
    effective = 1 / weights.square().sum(2)
    assert 3 < float(effective.median()) < 100


def test_frames_are_correlated_and_of_unit_variance(model: Model) -> None:
    """From the first frame to the last."""
    frames = model.recording
    assert float(frames.var()) == pytest.approx(1, abs=0.05)
    assert float(frames[:50].var()) == pytest.approx(1, abs=0.2)
    assert float((frames[1:] * frames[:-1]).mean()) == pytest.approx(CORRELATION, abs=0.05)


def test_the_seed_decides_and_nothing_else_is_touched(model: Model) -> None:
    """The same model again, whatever torch's own generator did, and that one goes on."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = Model.random(TINY, CPU, seed=1)
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(again.embeddings, model.embeddings, rtol=0, atol=0)
    torch.testing.assert_close(again.head.key_weight, model.head.key_weight, rtol=0, atol=0)
    other = Model.random(TINY, CPU, seed=2)
    assert not torch.equal(other.embeddings, model.embeddings)
    assert not torch.equal(other.head.key_weight, model.head.key_weight)
