"""The live pipeline over a whole recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest

from a2p_engine.errors import ModelError
from a2p_engine.types import StepRequest, Term
from streaming.offline import OfflineConfig, transcribe
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
