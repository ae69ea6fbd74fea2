"""Sounds in which nobody speaks, through the live pipeline."""

from __future__ import annotations

import pytest

from a2p_engine.types import Term
from streaming.evaluation import nonspeech as evaluate_nonspeech
from streaming.offline import OfflineConfig
from tests.streaming.fake_engine import FakeEngine

SHORT_SAMPLES = 3 * 16_000


@pytest.fixture(autouse=True)
def short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds will do."""
    monkeypatch.setattr(evaluate_nonspeech, "_MINUTE_SAMPLES", SHORT_SAMPLES)


def test_what_is_written_over_noise_is_counted() -> None:
    """The energy detector takes noise for speech; in silence even it hears nothing."""
    minutes: list[None] = []
    found = {
        result.sound: result
        for result in evaluate_nonspeech.measure(
            FakeEngine(),
            [Term(text="apixaban")],
            2,
            OfflineConfig(vad="energy"),
            progress=lambda: minutes.append(None),
        )
    }
    assert list(found) == ["silence", "white", "kitchen", "babble", "music"]
    assert len(minutes) == 10
    assert (found["silence"].segments, found["silence"].words) == (0, 0)
    assert found["babble"].segments > 0
    assert found["babble"].words == sum(len(text.split()) for text in found["babble"].texts) > 0
    assert found["babble"].minutes == 2


def test_the_default_detector_hears_no_speech() -> None:
    """So that nothing is decoded at all, voices without words aside."""
    found = evaluate_nonspeech.measure(FakeEngine(), [], 1, OfflineConfig())
    heard = {result.sound: result.segments for result in found}
    assert {sound for sound, segments in heard.items() if segments} <= {"babble"}
