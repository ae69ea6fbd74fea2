"""Sessions on a stage do what the server's sessions do."""

from __future__ import annotations

import torch

from a2p_engine.bench.glossaries import Glossary
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.stage import HEARD_FRAMES, TOP, Stage, Ticks, stage_bytes
from a2p_engine.ops import term_score
from a2p_engine.retriever.term_scorer import Chunk


def test_the_table_holds_the_glossarys_tokens(stage: Stage, glossary: Glossary) -> None:
    """Those and no others, so that V is what a glossary costs."""
    assert stage.table.size == len(glossary.distinct)
    assert stage.index.size == len(glossary) == 300
    assert stage.index.find(glossary.texts[7]) == 7


def test_a_tick_finds_the_best_terms_of_each_session(stage: Stage) -> None:
    """As a session does that heard the same frames without the benchmark around it."""
    ticks = Ticks(stage, sessions=3, settled=13, provisional=25)
    found = ticks(4)
    assert len(found) == 3
    for session, (values, places) in enumerate(found):
        hearing = stage.heard()
        frames = stage.frames(97 * session + 4 * 38, 38)
        scores = stage.index.scores(stage.scorer.hear([Chunk(hearing, frames, 13)]))[0]
        expected = term_score.top_k(scores, TOP)
        torch.testing.assert_close(values, expected[0])
        assert places.tolist() == expected[1].tolist()


def test_sessions_do_not_grow(stage: Stage) -> None:
    """What ticks keep for later tokens is dropped between runs; the state goes on."""
    ticks = Ticks(stage, sessions=2, settled=13)
    kept = []
    for number in range(3):
        ticks(number)
        kept.append([len(hearing.keys) for hearing in ticks.hearings])
        ticks.forget()
    assert kept == [[1, 1]] * 3
    assert [hearing.settled_frames for hearing in ticks.hearings] == [0, 0]


def test_frames_come_from_anywhere_in_the_recording(stage: Stage) -> None:
    """Whatever the number of a run, there are as many as asked for."""
    whole = len(stage.model.recording)
    for begin in (0, 5, whole - 38, whole - 37, 10 * whole):
        assert stage.frames(begin, 38).shape == (38, stage.model.preset.width)
    assert torch.equal(stage.frames(5, 3), stage.model.recording[5:8])
    assert stage.heard().settled_frames == HEARD_FRAMES


def test_memory_is_estimated_from_above(stage: Stage, glossary: Glossary, preset: Preset) -> None:
    """What table and index take is less than what is required before they are made."""
    taken = stage.table.nbytes + sum(stage.index.nbytes.values())
    assert stage_bytes(preset, glossary, 4) > taken > stage_bytes(preset, glossary, 4) / 10
