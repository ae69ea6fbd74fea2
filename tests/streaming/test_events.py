"""Events turn sample indices into seconds at the edge, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace

from a2p_engine.types import Source, TermHit, Word
from streaming.events import Error, Final, GlossaryUpdated, Partial, SessionStarted, Stats

HIT = TermHit(term="Eliquis", probability=0.93456, start_sample=8000, end_sample=None, used=True)


def test_final_with_words_and_terms() -> None:
    """Nested records are converted too; words lose the space they carry inside."""
    final = Final(
        segment_id=3,
        revision=2,
        start_sample=1600,
        end_sample=16_001,
        text="take Eliquis",
        language="en",
        reason="endpoint",
        words=(Word(text=" take", start_sample=1600, end_sample=3200, probability=0.51239),),
        terms=(HIT,),
    )
    assert final.to_dict() == {
        "type": "final",
        "segment_id": 3,
        "revision": 2,
        "start_s": 0.1,
        "end_s": 1.0,
        "text": "take Eliquis",
        "language": "en",
        "reason": "endpoint",
        "words": [{"word": "take", "start_s": 0.1, "end_s": 0.2, "probability": 0.5124}],
        "terms": [
            {"term": "Eliquis", "probability": 0.9346, "start_s": 0.5, "end_s": None, "used": True}
        ],
    }


def test_partial_keeps_the_space_between_its_halves() -> None:
    """Joined as they are, committed and volatile are the text."""
    partial = Partial(
        segment_id=1, revision=1, start_sample=0, end_sample=1, committed="so it", volatile=" is"
    )
    assert partial.to_dict()["committed"] + partial.to_dict()["volatile"] == "so it is"


def test_what_was_said_goes_with_a_translation_only() -> None:
    """The key is there only with a value."""
    partial = Partial(
        segment_id=1, revision=1, start_sample=0, end_sample=1, committed="", volatile="My"
    )
    assert "source" not in partial.to_dict()
    translated = replace(partial, source=Source(text="Mi hermano", language="es"))
    assert translated.to_dict()["source"] == {"text": "Mi hermano", "language": "es"}


def test_rejections_are_listed_up_to_twenty() -> None:
    """The count tells of the others."""
    rejected = tuple((f"entry {index}", "blank") for index in range(50))
    updated = GlossaryUpdated(
        version=2, terms=1, added=1, removed=0, audio_time_sample=8000, rejected=rejected
    ).to_dict()
    started = SessionStarted(
        session_id="a", audio={}, language="en", task="translate", options={}, rejected=rejected
    ).to_dict()["glossary"]
    for answer in (updated, started):
        assert len(answer["rejected"]) == 20 and answer["rejected_count"] == 50
        assert answer["rejected"][0] == {"entry": "entry 0", "reason": "blank"}
    assert updated["audio_time_s"] == 0.5


def test_retry_after_is_there_only_with_a_value() -> None:
    """Other errors do not carry the key."""
    error = Error(code="full", message="m", fatal=True, retry_after_s=5.0).to_dict()
    assert error == {
        "type": "error",
        "code": "full",
        "message": "m",
        "fatal": True,
        "retry_after_s": 5.0,
    }
    assert "retry_after_s" not in Error(code="x", message="m", fatal=False).to_dict()


def test_every_event_is_json() -> None:
    """Mappings and tuples inside do not get in the way."""
    stats = Stats(audio_samples=16_000, lag_samples=160, timings_ms={"decode": 99.55})
    assert json.loads(json.dumps(stats.to_dict())) == {
        "type": "stats",
        "audio_s": 1.0,
        "lag_s": 0.01,
        "timings_ms": {"decode": 99.5},
        "sessions": 0,
    }
