"""The live pipeline over a whole recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest, Term
from streaming.events import Final
from streaming.offline import OfflineConfig, pieces, transcribe
from tests.streaming.fake_engine import FakeEngine
from tests.streaming.signals import silence, tone

ENERGY = OfflineConfig(vad="energy")
RECORDING = np.concatenate([silence(0.7), tone(2), silence(1.2), tone(1)])


def test_finals_with_one_step_each(engine: FakeEngine) -> None:
    """Segments and words are those of a live session, without decoding anything twice."""
    first, second = transcribe(engine, RECORDING, ENERGY)
    assert (first.text, first.reason) == ("w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10", "endpoint")
    assert (second.text, second.reason) == ("w0 w1 w2 w3 w4", "stop")
    assert (first.start_sample, first.end_sample) == (6400, 51_200)
    assert [request.final for request in engine.requests] == [True, True]
    assert engine.sessions == {}


def test_terms_reach_the_engine(engine: FakeEngine) -> None:
    """A glossary given is the session's."""
    finals = transcribe(engine, RECORDING, ENERGY, [Term(text="apixaban")])
    assert [hit.term for hit in finals[0].terms] == ["apixaban"]


@pytest.mark.parametrize("make", [lambda: silence(3), lambda: silence(0)])
def test_no_speech_no_finals(engine: FakeEngine, make: Callable[[], object]) -> None:
    """Silence and an empty recording give an empty list."""
    assert transcribe(engine, make(), ENERGY) == []  # type: ignore[arg-type]


def test_the_engines_failure_is_raised_and_its_session_closed(engine: FakeEngine) -> None:
    """A recording is all or nothing."""

    def fail(request: StepRequest) -> NoReturn:
        raise ModelError("ill")

    engine.hook = fail
    with pytest.raises(ModelError, match="ill"):
        transcribe(engine, RECORDING, ENERGY)
    assert engine.sessions == {}


def test_work_is_done_in_pieces(engine: FakeEngine) -> None:
    """Nothing happens before it is asked for: one step at most, or a few seconds heard."""
    blocks = iter([*([silence(1)] * 12), tone(2), silence(1)])
    work = pieces(engine, blocks, ENERGY)
    assert engine.sessions == {}
    assert next(work) == []
    assert len(engine.sessions) == 1
    told = [next(work), next(work)]
    assert told == [[], []]
    assert len(list(blocks)) == 4  # two times five of fourteen seconds were heard
    assert engine.requests == []


def test_work_that_is_given_up_closes_its_session(engine: FakeEngine) -> None:
    """In the middle, between two steps."""
    work = pieces(engine, iter([RECORDING]), ENERGY)
    while not engine.requests:
        next(work)
    work.close()
    assert len(engine.requests) == 1
    assert engine.sessions == {}


def test_an_index_reaches_the_engine(engine: FakeEngine, tmp_path: Path) -> None:
    """Terms of an index file are the session's too."""
    index = tmp_path / "terms.txt"
    index.write_text("warfarin")
    work = pieces(engine, iter([RECORDING]), ENERGY, [Term(text="apixaban")], index=index)
    finals = [event for told in work for event in told if isinstance(event, Final)]
    assert [hit.term for hit in finals[0].terms] == ["warfarin", "apixaban"]
