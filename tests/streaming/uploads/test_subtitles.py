"""Subtitles are readable, broken at phrases, well-timed and well-formed."""

from __future__ import annotations

import io
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.types import Word
from streaming.events import Final
from streaming.uploads.subtitles import (
    LEAST_CUE_S,
    LINE_CHARS,
    MAX_CUE_S,
    Cue,
    cues,
    to_srt,
    to_vtt,
)

CUE_LINES = 2
HOUR_SAMPLES = 3600 * 16_000


def final(
    text: str, start: int = 16_000, *, words: bool = True, word_samples: int = 4_000
) -> Final:
    """A final of words of equal length; ``|`` is a pause of a second."""
    spoken: list[Word] = []
    at = start
    for word in text.split():
        if word == "|":
            at += 16_000
            continue
        end = at + word_samples
        spoken.append(Word(text=f" {word}", start_sample=at, end_sample=end, probability=0.9))
        at = end
    return Final(
        segment_id=1,
        revision=3,
        start_sample=start,
        end_sample=at,
        text=text.replace(" |", ""),
        language="en",
        reason="endpoint",
        words=tuple(spoken) if words else (),
    )


def texts(found: list[Cue]) -> list[list[str]]:
    """The lines of each cue."""
    return [cue.text.split("\n") for cue in found]


def test_srt_is_numbered_with_commas_in_times() -> None:
    """The form that players expect, hours included."""
    finals = [final("Good morning all."), final("After an hour.", HOUR_SAMPLES)]
    assert to_srt(finals) == (
        "1\n00:00:01,000 --> 00:00:02,000\nGood morning all.\n\n"
        "2\n01:00:00,000 --> 01:00:01,000\nAfter an hour.\n"
    )


def test_vtt_has_its_header_and_escapes_markup() -> None:
    """Angle brackets and ampersands of a caption are not tags, and cannot look like an arrow."""
    assert to_vtt([final("a<b> & --> c")]) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na&lt;b&gt; &amp; --&gt; c\n"
    )


def test_nothing_said_is_still_a_valid_file() -> None:
    """No finals, and finals without text, make no cues."""
    assert to_srt([]) == to_srt([final("")]) == ""
    assert to_vtt([]) == "WEBVTT\n"


@pytest.mark.parametrize(("form", "write"), [("srt", to_srt), ("webvtt", to_vtt)])
def test_ffmpeg_reads_the_same_cues(form: str, write: object) -> None:
    """A player's reader finds every cue, with its text and times to the millisecond."""
    talk = "We give apixaban & warfarin, if x < y. " * 12
    finals = [final(talk), final("The end.", HOUR_SAMPLES)]
    assert callable(write)
    with av.open(io.BytesIO(write(finals).encode()), format=form) as file:
        read = [
            (bytes(packet).decode(), float(packet.pts * packet.time_base))
            for packet in file.demux()
            if packet.size
        ]
    expected = cues(finals)
    unescaped = [(text.replace("&lt;", "<").replace("&amp;", "&"), at) for text, at in read]
    assert unescaped == [(cue.text, pytest.approx(cue.start_s)) for cue in expected]
    assert len(expected) > 5


def test_a_sentence_that_fills_a_line_ends_its_cue() -> None:
    """The next sentence begins in a cue of its own, at the time it is spoken."""
    found = cues([final("This sentence is long enough for a line. And this one follows it.")])
    assert [cue.text for cue in found] == [
        "This sentence is long enough for a line.",
        "And this one follows it.",
    ]
    assert found[1].start_s == 1.0 + 8 * 0.25


def test_short_sentences_share_a_cue() -> None:
    """Two words do not flash by alone where there is room beside them."""
    assert texts(cues([final("Yes. I think so.")])) == [["Yes. I think so."]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "If the patient bleeds on the ward, call the surgeon on duty at once.",
            [["If the patient bleeds on the ward,", "call the surgeon on duty at once."]],
        ),
        (
            "He takes two tablets every morning | before he has had anything to eat",
            [["He takes two tablets every morning", "before he has had anything to eat"]],
        ),
        (
            "The committee met on Tuesday morning because the minister had asked for it",
            [["The committee met on Tuesday morning", "because the minister had asked for it"]],
        ),
    ],
    ids=["at a comma", "at a pause", "before a conjunction"],
)
def test_lines_end_where_phrases_end(text: str, expected: list[list[str]]) -> None:
    """Rather than when they are full."""
    assert texts(cues([final(text)])) == expected


def test_nothing_ends_with_an_article() -> None:
    """What belongs together stays together, in lines and in cues."""
    talk = "one saw a very old house in the middle of an orchard near the end of a road to the sea"
    for lines in texts(cues([final(" ".join([talk] * 4), word_samples=5_000)])):
        for line in lines:
            assert line.split()[-1] not in ("a", "an", "the", "of", "in", "to")


def test_lines_are_of_about_equal_length() -> None:
    """Two lines share the text instead of leaving one word alone."""
    (cue,) = cues([final("one two three four five six seven eight nine ten")])
    first, second = cue.text.split("\n")
    assert abs(len(first) - len(second)) <= 6


def test_a_language_without_spaces_is_broken_between_words() -> None:
    """Its words are put together as they were written."""
    word = Word(text="字幕", start_sample=0, end_sample=4_000, probability=0.9)
    long = Final(
        segment_id=1,
        revision=1,
        start_sample=0,
        end_sample=4_000 * 40,
        text="字幕" * 40,
        language="ja",
        reason="endpoint",
        words=(word,) * 40,
    )
    found = texts(cues([long]))
    assert "".join("".join(lines) for lines in found) == "字幕" * 40
    assert max(len(line) for lines in found for line in lines) <= LINE_CHARS


def test_a_final_without_words_is_spread_over_its_time() -> None:
    """Cues are made even when words have no times."""
    text = "word " * 40
    found = cues([final(text.strip(), words=False)])
    assert found[0].start_s == 1.0
    assert found[-1].end_s == 11.0
    assert " ".join(" ".join(cue.text.split()) for cue in found) == text.strip()


def test_a_word_longer_than_a_line_is_cut() -> None:
    """Nothing of it is lost, and its parts share its time."""
    found = cues([final("see " + "x" * 100)])
    assert (
        "".join(cue.text for cue in found).replace("\n", "").replace(" ", "") == "see" + "x" * 100
    )
    assert max(len(line) for lines in texts(found) for line in lines) <= LINE_CHARS


def test_cues_of_overlapping_finals_are_moved_apart() -> None:
    """Times of words are estimates; those of cues rise all the same."""
    found = cues([final("One two three.", 16_000), final("Four.", 20_000), final("Five.", 16_000)])
    assert [cue.text for cue in found] == ["One two three.", "Four.", "Five."]
    assert all(one.end_s <= two.start_s for one, two in pairwise(found))
    assert all(cue.end_s - cue.start_s >= LEAST_CUE_S - 1e-9 for cue in found)


words_of_speech = st.text("abcdefgh.,é字", min_size=1, max_size=60)


@given(
    said=st.lists(st.lists(words_of_speech, max_size=60).map(" ".join), max_size=4),
    word_samples=st.integers(1, 40_000),
    step=st.integers(-8_000, 8_000),
)
def test_cues_keep_every_word_and_never_overlap(
    said: list[str], word_samples: int, step: int
) -> None:
    """Whatever is said: all of it, in order, lines short enough, times that never run back."""
    finals, start = [], 8_000
    for text in said:
        finals.append(final(text, max(0, start), word_samples=word_samples))
        start = finals[-1].end_sample + step
    found = cues(finals)
    assert "".join("".join(cue.text.split()) for cue in found) == "".join("".join(said).split())
    for cue in found:
        lines = cue.text.split("\n")
        assert len(lines) <= CUE_LINES
        assert all(0 < len(line) <= LINE_CHARS for line in lines)
        assert cue.end_s > cue.start_s
        longest_s = max(MAX_CUE_S, word_samples / 16_000)
        assert cue.end_s - cue.start_s <= longest_s + 1e-3
    assert all(one.end_s <= two.start_s for one, two in pairwise(found))
