"""Subtitles are readable, well-timed and well-formed; text and JSON are complete."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.types import TermHit, Word
from streaming.cli.formats import CUE_LINES, LINE_CHARS, cues, to_json, to_srt, to_text, to_vtt
from streaming.events import Final

HOUR_SAMPLES = 3600 * 16_000


def _final(
    text: str, start: int = 16_000, *, words: bool = True, word_samples: int = 4_000
) -> Final:
    spoken = tuple(
        Word(
            text=f" {word}",
            start_sample=start + number * word_samples,
            end_sample=start + (number + 1) * word_samples,
            probability=0.9,
        )
        for number, word in enumerate(text.split())
    )
    return Final(
        segment_id=1,
        revision=3,
        start_sample=start,
        end_sample=start + len(spoken) * word_samples,
        text=text,
        language="en",
        reason="endpoint",
        words=spoken if words else (),
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


def test_srt_is_numbered_with_commas_in_times() -> None:
    """The form that players expect, hours included."""
    finals = [_final("Good morning all."), _final("After an hour.", HOUR_SAMPLES)]
    assert to_srt(finals) == (
        "1\n00:00:01,000 --> 00:00:02,000\nGood morning all.\n\n"
        "2\n01:00:00,000 --> 01:00:00,750\nAfter an hour.\n"
    )


def test_vtt_has_its_header_and_escapes_markup() -> None:
    """Angle brackets and ampersands of a caption are not tags, and cannot look like an arrow."""
    assert to_vtt([_final("a<b> & --> c")]) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na&lt;b&gt; &amp; --&gt; c\n"
    )


def test_nothing_said_is_still_a_valid_file() -> None:
    """No finals make empty text and subtitle files that players accept."""
    assert to_text([]) == to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n"
    assert json.loads(to_json([])) == {"text": "", "segments": []}


def test_a_sentence_that_fills_a_line_ends_its_cue() -> None:
    """The next sentence begins in a cue of its own, at the time it is spoken."""
    found = cues([_final("This sentence is long enough for a line. And this one follows it.")])
    assert [cue.text for cue in found] == [
        "This sentence is long enough for a line.",
        "And this one follows it.",
    ]
    assert found[1].start_s == 1.0 + 8 * 0.25


def test_lines_are_of_about_equal_length() -> None:
    """Two lines share the text instead of leaving one word alone."""
    (cue,) = cues([_final("one two three four five six seven eight nine ten")])
    first, second = cue.text.split("\n")
    assert abs(len(first) - len(second)) <= 6


def test_a_final_without_words_is_spread_over_its_time() -> None:
    """Cues are made even when the server sends no words."""
    text = "word " * 40
    found = cues([_final(text.strip(), words=False)])
    assert found[0].start_s == 1.0
    assert found[-1].end_s == 11.0
    assert " ".join(" ".join(cue.text.split()) for cue in found) == text.strip()


@given(
    texts=st.lists(
        st.lists(st.text("abcdefgh.é", min_size=1, max_size=15), max_size=60).map(" ".join),
        max_size=4,
    ),
    word_samples=st.integers(100, 40_000),
)
def test_cues_keep_every_word_and_never_overlap(texts: list[str], word_samples: int) -> None:
    """Whatever is said: all words, in order, lines short enough, times that never run back."""
    finals, start = [], 0
    for text in texts:
        finals.append(_final(text, start, word_samples=word_samples))
        start = finals[-1].end_sample + 800
    found = cues(finals)
    assert " ".join(cue.text for cue in found).split() == " ".join(texts).split()
    for cue in found:
        lines = cue.text.split("\n")
        assert len(lines) <= CUE_LINES
        assert max(map(len, lines)) <= LINE_CHARS
        assert cue.end_s > cue.start_s
    assert all(one.end_s <= two.start_s for one, two in pairwise(found))
