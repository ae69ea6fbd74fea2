"""Edits beside a running session."""

from __future__ import annotations

import pytest
import torch

from a2p_engine.bench import edits
from a2p_engine.bench.clock import Clock
from a2p_engine.bench.edits import Batch, Edits
from a2p_engine.bench.glossaries import GlossaryMaker
from a2p_engine.bench.stage import Stage

CLOCK = Clock(torch.device("cpu"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "TERMS", 50)
    monkeypatch.setattr(edits, "PERIOD_S", 0.02)
    monkeypatch.setattr(edits, "RUNNING_S", 0.3)


@torch.no_grad()
def test_edits_are_timed_alone_and_beside_a_session(stage: Stage, maker: GlossaryMaker) -> None:
    """The other thread edits all the time; new tokens join the table; the version stays."""
    before = stage.table.size
    found = Edits.measure(stage, maker, CLOCK, frames=13, repeat=3, seed=1)
    assert (found.added, found.removed) == (50, 50)
    assert found.add.runs == found.remove.runs == 3
    assert found.new_tokens == stage.table.size - before > 0
    assert found.edits >= 2
    assert found.while_editing.runs >= edits.LEAST_TICKS
    assert found.undisturbed.runs >= edits.LEAST_TICKS
    assert stage.index.size == 300


def test_a_batch_makes_terms_that_can_be_found(stage: Stage, maker: GlossaryMaker) -> None:
    """What an edit pays for ends in a version that has the old and the new terms."""
    fresh = maker.make(50, first=300)
    edited = stage.index.edit(add=Batch.of(fresh).section(stage))
    assert edited.size == 350
    assert edited.find(fresh.texts[49]) == 349
    assert edited[349].text == fresh.texts[49]


@torch.no_grad()
def test_an_error_of_the_editing_thread_is_not_lost(
    stage: Stage, maker: GlossaryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the measurement."""
    calls: list[Batch] = []
    section = Batch.section

    def fails(batch: Batch, on: Stage) -> object:
        calls.append(batch)
        if len(calls) > edits.WARM_UPS + 2:
            raise RuntimeError("no more")
        return section(batch, on)

    monkeypatch.setattr(Batch, "section", fails)
    with pytest.raises(RuntimeError, match="no more"):
        Edits.measure(stage, maker, CLOCK, frames=13, repeat=2, seed=1)
