"""How well a term fits one stretch of a real recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2p_engine.audio import read_audio
from a2p_engine.engine import Engine, EngineSettings
from a2p_engine.retriever.retriever import Retriever, RetrieverState
from a2p_engine.types import Term

RECORDING = Path(__file__).parents[3] / "examples" / "data" / "ward_round.flac"
HZ = 16_000
TERMS = ("rosuvastatin", "empagliflozin", "Zanzibar")


@pytest.fixture(scope="module")
def heard() -> tuple[Retriever, RetrieverState, int]:
    """I would add empagliflozin and keep the rosuvastatin at night, in two ticks."""
    engine = Engine.load(EngineSettings(device="cpu", workers=1))
    retriever = engine._loaded_retriever()
    index = retriever.index([Term(text=text) for text in TERMS])
    samples = read_audio(RECORDING)[int(10.1 * HZ) : int(15.4 * HZ)]
    state = retriever.start()
    for end in (len(samples) // 2, len(samples)):
        frames = engine._encoder.encode(samples[:end]).frames
        retriever.step(index, state, frames)
    return retriever, state, len(frames)


def test_a_term_fits_where_it_was_said(heard: tuple[Retriever, RetrieverState, int]) -> None:
    """It costs little there, much elsewhere; what was not said costs much everywhere."""
    retriever, state, frames = heard
    said, other, never = (retriever.pronounce(text) for text in TERMS)
    whole = retriever.fit(state, said, 0, frames)
    assert whole is not None and 0 < whole.start < whole.end <= frames
    assert whole.mean_cost < 1.0
    assert retriever.fit(state, said, whole.start, whole.end) == whole
    before = retriever.fit(state, said, 0, whole.start)
    inside = retriever.fit(state, other, whole.start, whole.end)
    absent = retriever.fit(state, never, 0, frames)
    for fit in (before, inside, absent):
        assert fit is not None and fit.mean_cost > 2 * whole.mean_cost


def test_where_there_is_nothing_to_match_there_is_no_fit(
    heard: tuple[Retriever, RetrieverState, int],
) -> None:
    """Nothing heard, a stretch outside of the audio, or nothing that can be pronounced."""
    retriever, state, frames = heard
    said = retriever.pronounce("rosuvastatin")
    assert retriever.fit(retriever.start(), said, 0, frames) is None
    assert retriever.fit(state, said, frames + 50, frames + 90) is None
    assert retriever.fit(state, retriever.pronounce("***"), 0, frames) is None
