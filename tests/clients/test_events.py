"""Messages of the server as records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import Final, RawEvent, SessionStarted, Source, Stats, TermUse, Word, parse_event

FINAL = {
    "type": "final",
    "seq": 7,
    "segment_id": 3,
    "revision": 4,
    "start_s": 1.0,
    "end_s": 2.0,
    "text": "apixaban",
    "words": [{"word": "apixaban", "start_s": 1.1, "end_s": 1.9, "probability": 0.8}],
    "terms": [
        {"term": "apixaban", "probability": 0.9, "start_s": None, "end_s": None, "used": True}
    ],
    "mood": "cheerful",
}


def test_records_are_nested_and_unknown_keys_ignored() -> None:
    """Words and terms are records too; a new key does no harm."""
    event = parse_event(FINAL)
    assert isinstance(event, Final)
    assert event.words == (Word(word="apixaban", start_s=1.1, end_s=1.9, probability=0.8),)
    assert event.terms == (TermUse(term="apixaban", probability=0.9, used=True),)


def test_what_was_said_beside_a_translation_is_a_record() -> None:
    """With its language; most finals have none."""
    event = parse_event(FINAL | {"source": {"text": "apixabán", "language": "es", "mood": "?"}})
    assert isinstance(event, Final)
    assert event.source == Source(text="apixabán", language="es")
    plain = parse_event(FINAL)
    assert isinstance(plain, Final) and plain.source is None


def test_times_and_segments_are_shifted_at_every_depth() -> None:
    """After a reconnect all times and ids are those of the client's clock; None stays None."""
    event = parse_event(FINAL, shift_s=10.0, shift_segments=5)
    assert isinstance(event, Final)
    assert (event.start_s, event.end_s, event.segment_id) == (11.0, 12.0, 8)
    assert event.words[0].start_s == 11.1
    assert event.terms[0].start_s is None


def test_durations_are_not_shifted() -> None:
    """The lag of the server is no point in time."""
    event = parse_event({"type": "stats", "seq": 1, "audio_s": 2.0, "lag_s": 0.5}, shift_s=10.0)
    assert isinstance(event, Stats)
    assert (event.audio_s, event.lag_s) == (12.0, 0.5)


def test_the_glossary_of_a_session_is_a_record() -> None:
    """Nested objects with rejections are typed."""
    event = parse_event(
        {
            "type": "session.started",
            "seq": 1,
            "session_id": "s",
            "protocol": 1,
            "audio": {},
            "language": "en",
            "task": "transcribe",
            "options": {},
            "glossary": {"version": 1, "terms": 2, "rejected": [{"entry": "", "reason": "blank"}]},
        }
    )
    assert isinstance(event, SessionStarted)
    assert event.glossary.rejected[0].reason == "blank"


@pytest.mark.parametrize("field", ["text", "segment_id", "end_s"])
def test_a_missing_field_makes_a_raw_event(field: str) -> None:
    """An incomplete message is handed on as it is."""
    message = {key: value for key, value in FINAL.items() if key != field}
    assert parse_event(message) == RawEvent(seq=7, type="final", data=message)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*FINAL, "glossary", "version", "time_s"]), JSON))
def test_no_message_raises(message: dict[str, object]) -> None:
    """Whatever JSON object comes, an event comes out."""
    parse_event(message | {"type": message.get("text", "final")}, shift_s=1.0)
    parse_event(FINAL | message, shift_s=1.0)
