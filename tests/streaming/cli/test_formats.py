"""Text and JSON are complete; tests/streaming/uploads/test_subtitles.py has the subtitles."""

from __future__ import annotations

import json

from a2p_engine.types import TermHit, Word
from streaming.cli.formats import WRITERS, to_json, to_text
from streaming.events import Final

WORD_SAMPLES = 4_000


def _final(text: str, start: int = 16_000) -> Final:
    spoken = tuple(
        Word(
            text=f" {word}",
            start_sample=start + number * WORD_SAMPLES,
            end_sample=start + (number + 1) * WORD_SAMPLES,
            probability=0.9,
        )
        for number, word in enumerate(text.split())
    )
    return Final(
        segment_id=1,
        revision=3,
        start_sample=start,
        end_sample=start + len(spoken) * WORD_SAMPLES,
        text=text,
        language="en",
        reason="endpoint",
        words=spoken,
        terms=(TermHit(term="apixaban", probability=0.9),),
    )


def test_text_has_a_line_for_each_segment_with_words() -> None:
    """Empty finals leave no empty line."""
    assert to_text([_final("One."), _final(""), _final("Two.")]) == "One.\nTwo.\n"


def test_json_holds_everything_in_seconds() -> None:
    """Segments carry words and terms, and the whole text stands at the top."""
    report = json.loads(to_json([_final("Take apixaban."), _final("Naïve café.")]))
    assert report["text"] == "Take apixaban. Naïve café."
    first = report["segments"][0]
    assert (first["start_s"], first["end_s"], first["reason"]) == (1.0, 1.5, "endpoint")
    assert first["words"][1] == {
        "word": "apixaban.",
        "start_s": 1.25,
        "end_s": 1.5,
        "probability": 0.9,
    }
    assert first["terms"][0]["term"] == "apixaban"


def test_nothing_said_is_still_a_valid_file() -> None:
    """No finals make empty text and subtitle files that players accept."""
    assert {form: write([]) for form, write in WRITERS.items() if form != "json"} == {
        "txt": "",
        "srt": "",
        "vtt": "WEBVTT\n",
    }
    assert json.loads(to_json([])) == {"text": "", "segments": []}
