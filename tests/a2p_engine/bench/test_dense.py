"""The dense form beside ours: the same numbers, and left out where it would not end."""

from __future__ import annotations

import pytest
import torch

from a2p_engine.bench import dense
from a2p_engine.bench.clock import Clock
from a2p_engine.bench.glossaries import Glossary, GlossaryMaker
from a2p_engine.bench.rates import Rates
from a2p_engine.bench.stage import Stage
from a2p_engine.bench.synthetic import Model
from a2p_engine.retriever.term_scorer import Chunk

FRAMES = 60
CLOCK = Clock(torch.device("cpu"))
FAST = Rates(copy_bytes_per_s=1e9, matmul_flop_per_s=1e9, matmul_dtype="float32", matmul_size=1)
SLOW = Rates(copy_bytes_per_s=1.0, matmul_flop_per_s=1.0, matmul_dtype="float32", matmul_size=1)


@torch.no_grad()
def test_both_forms_compute_the_same(stage: Stage, model: Model, glossary: Glossary) -> None:
    """Padded terms against a window give the log-probabilities of our scores."""
    longest = int(glossary.lengths.max())
    inputs = dense.inputs(model, glossary, longest, FRAMES, torch.float32)
    assert inputs[1].shape == (300, longest)
    expected = model.module(*inputs)[0, :, 1]
    heard = Chunk(stage.scorer.start(), model.recording[:FRAMES], FRAMES)
    logits = stage.index.scores(stage.scorer.hear([heard]) + stage.table.priors)[0]
    torch.testing.assert_close(torch.nn.functional.logsigmoid(logits), expected)


@torch.no_grad()
def test_it_is_timed(model: Model, glossary: Glossary) -> None:
    """With its size and arithmetic, padding included."""
    found = dense.measure(model, glossary, FRAMES, CLOCK, FAST, "auto")
    assert found.reason is None
    assert found.timing is not None
    assert found.timing.runs == dense.RUNS
    assert found.longest == 6
    assert found.flop > 300 * 6 * 8 * 32**2


@torch.no_grad()
def test_what_takes_long_runs_once_and_only_when_asked(model: Model, glossary: Glossary) -> None:
    """'auto' leaves it out and says how long a run would take."""
    skipped = dense.measure(model, glossary, FRAMES, CLOCK, SLOW, "auto")
    assert skipped.timing is None
    assert f"{skipped.flop:.0f} s a run" in (skipped.reason or "")
    asked = dense.measure(model, glossary, FRAMES, CLOCK, SLOW, "always")
    assert asked.timing is not None
    assert asked.timing.runs == 1


@pytest.mark.parametrize(
    ("terms", "when", "free", "reason"),
    [
        (300, "never", 1 << 40, "not asked for"),
        (10_001, "always", 1 << 40, "more than 10,000 terms"),
        (300, "always", 1000, "are free"),
    ],
)
def test_reasons_to_leave_it_out(
    model: Model,
    maker: GlossaryMaker,
    monkeypatch: pytest.MonkeyPatch,
    terms: int,
    when: dense.When,
    free: int,
    reason: str,
) -> None:
    """Each is named; nothing is run."""
    monkeypatch.setattr(dense, "available_bytes", lambda device: free)
    found = dense.measure(model, maker.make(terms), FRAMES, CLOCK, FAST, when)
    assert found.timing is None
    assert reason in (found.reason or "")
