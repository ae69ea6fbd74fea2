"""Measuring a live session: what is counted, from which clock, and what the figures say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2p_engine.errors import InputError
from a2p_engine.manifest import Recording
from clients.events import Event, Final, Partial, SpeechStarted, SpeechStopped, TermUse
from streaming.evaluation import live as evaluate
from streaming.evaluation.live import Record, dump, evaluate_streaming, measure, summarise


def _partial(text: str, end_s: float, revision: int) -> Partial:
    return Partial(
        seq=0,
        segment_id=0,
        revision=revision,
        start_s=1.0,
        end_s=end_s,
        committed="",
        volatile=text,
    )


def _session(*timed: tuple[float, Event]) -> object:
    async def speak(url: str, utterance: Recording, **_: object) -> object:
        for clock_s, event in timed:
            yield clock_s, event

    return speak


@pytest.fixture
def utterance(tmp_path: Path) -> Recording:
    """Four seconds of which the text and one term are known."""
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(64_000), 16_000)
    return Recording(
        id="u", audio=tmp_path / "a.wav", text="she takes apixaban", terms=("apixaban",)
    )


async def test_latencies_are_taken_from_the_audio_clock(
    utterance: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First words count from the beginning of speech, the final from its end."""
    final = Final(
        seq=0, segment_id=0, revision=3, start_s=1.0, end_s=3.0, text="She takes apixaban.",
        terms=(
            TermUse(term="apixaban", probability=0.9, used=True),
            TermUse(term="takes", probability=0.3, used=True),
            TermUse(term="wake", probability=0.3),
        ),
    )  # fmt: skip
    stopped = SpeechStopped(seq=0, segment_id=0, time_s=2.6)
    script = _session(
        (1.2, SpeechStarted(seq=0, segment_id=0, time_s=1.0)),
        (1.4, _partial("", 1.3, 1)),
        (1.6, _partial("She wakes", 1.5, 2)),
        (2.4, _partial("She takes a", 2.0, 3)),
        (3.1, stopped),
        (3.2, final),
    )
    monkeypatch.setattr(evaluate, "speak", script)
    seen: list[Event] = []
    record = await measure("", utterance, glossary="g", watch=seen.append)
    assert record.first_partial_s == [pytest.approx(0.6)]
    assert record.final_s == [pytest.approx(0.6)]
    assert record.lag_s == [pytest.approx(x) for x in (0.1, 0.1, 0.4, 0.2)]
    assert record.erased_words == 2  # "wakes", then "a"
    assert record.found == ["apixaban"]
    assert record.inserted == []  # "takes" was offered and written, and it was said
    assert seen[-2:] == [stopped, final]


async def test_a_term_that_was_not_said_is_a_false_insertion(
    utterance: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every term that is written, offered in the final or not, unless text or terms contain it."""
    final = Final(
        seq=0, segment_id=0, revision=2, start_s=0, end_s=1,
        text="She takes Abixaban, a wide awake apixaban.",
        terms=(TermUse(term="abixaban", probability=0.4, used=True),),
    )  # fmt: skip
    script = _session((1.1, _partial("She wide", 0.9, 1)), (1.5, final))
    monkeypatch.setattr(evaluate, "speak", script)
    listed = ["abixaban", "Wide awake", "wide", "takes", "apixaban", "awakes"]
    (record,) = [
        record async for record in evaluate_streaming("", [utterance], glossary="g", terms=listed)
    ]
    assert (record.found, record.inserted) == (["apixaban"], ["abixaban", "wide", "wide awake"])
    untold = await measure("", utterance, glossary=None)
    assert untold.inserted == []


def test_the_summary_adds_up() -> None:
    """Rates over all utterances; what has no reference counts in no rate that needs one."""
    known = Record(
        id="a", audio_s=1800,
        reference="bed four takes apixaban", hypothesis="Bed 4 takes a pixaban.",
        terms=("apixaban",), inserted=["x"], first_partial_s=[0.5, 1.5], final_s=[1.0],
        lag_s=[0.1, 0.1, 0.4, 0.4, 0.9, 0.9], erased_words=1,
    )  # fmt: skip
    unknown = Record(id="b", audio_s=1800, reference=None, terms=("latte",), found=["latte"])
    summary = summarise([known, unknown])
    assert summary["wer"] == pytest.approx(2 / 4)
    assert summary["u_wer"] == pytest.approx(1 / 3, abs=1e-4)
    assert summary["b_wer"] == 1.0
    assert summary["term_recall"] == 0.5
    assert summary["false_insertions_per_hour"] == 2.0
    assert summary["first_partial_s"] == {"p50": 1.0, "p95": 1.45, "p99": 1.49, "n": 2}
    assert summary["lag_growth_s"] == 0.8
    assert summary["normalized_erasure"] == 0.2


def test_nothing_to_count_is_no_figure() -> None:
    """Empty denominators give None, not zero."""
    summary = summarise([Record(id="b", audio_s=1.0, reference=None)])
    assert summary["wer"] is summary["term_recall"] is summary["final_s"] is None


def test_the_dump_is_one_object_per_recording(tmp_path: Path) -> None:
    """JSON lines with every field."""
    dump([Record(id="1", audio_s=2.0, reference=None)], tmp_path / "d.jsonl")
    assert json.loads((tmp_path / "d.jsonl").read_text())["id"] == "1"
    with pytest.raises(InputError, match="cannot write"):
        dump([], tmp_path)
