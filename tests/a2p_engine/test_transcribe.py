"""A hypothesis becomes evidence: its words in frames, and what is told proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from a2p_engine.choices import Choice
from a2p_engine.encoders.base import Encoded
from a2p_engine.prompt import Prompt
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.speech_llm.base import DecodeRequest, Hypothesis, TimedWord
from a2p_engine.transcribe import FRAME_SAMPLES, first_transcript, transcript_of, updated

SECOND = 16_000


def _words(*spans: tuple[str, int, int]) -> list[TimedWord]:
    """Words with their times in frames."""
    return [
        TimedWord(
            text=text,
            start_sample=start * FRAME_SAMPLES,
            end_sample=end * FRAME_SAMPLES,
            probability=0.5,
        )
        for text, start, end in spans
    ]


def _written(
    *spans: tuple[str, int, int], before: Transcript | None = None, told: Sequence[str] = ()
) -> Transcript:
    return updated(before, _words(*spans), told=told, samples=4 * SECOND)


def _rows(transcript: Transcript) -> list[tuple[str, int, int, bool]]:
    return [(word.text, word.start, word.end, word.told) for word in transcript.words]


def test_words_reach_over_every_frame_they_touch() -> None:
    """So does the transcript: the last frame is covered though the audio ends within it."""
    word = TimedWord(text=" a", start_sample=639, end_sample=1281, probability=0.3)
    found = transcript_of([word], 1300)
    assert _rows(found) == [(" a", 0, 3, False)]
    assert (found.words[0].probability, found.frames) == (0.3, 3)
    assert transcript_of([], SECOND).frames == 25


def test_the_first_transcript_is_written_untold() -> None:
    """The whole of the audio, in its own language."""
    asked: list[DecodeRequest] = []

    class Decoder:
        def decode(self, request: DecodeRequest) -> Hypothesis:
            asked.append(request)
            words = tuple(_words((" hello", 2, 9)))
            return Hypothesis(
                words=words, language="de", prompt=Prompt(text="", terms=(), trimmed=0)
            )

    samples = np.zeros(SECOND, np.float32)
    encoded = Encoded(frames=np.zeros((50, 1), np.float32), native=None)
    found = first_transcript(cast(Any, Decoder()), samples, encoded, "de")
    assert _rows(found) == [(" hello", 2, 9, False)]
    assert found.frames == 25
    (request,) = asked
    assert (request.terms, request.committed) == ((), "")
    assert (request.language, request.task) == ("de", "transcribe")


def test_told_words_are_marked() -> None:
    """All words of a term, wherever it is written; nothing else."""
    found = _written(
        (" The", 0, 5), (" New", 5, 9), (" York,", 9, 14), (" new", 14, 20), told=["new york"]
    )
    assert [word.told for word in found.words] == [False, True, True, False]


def test_where_a_told_term_stands_what_stood_before_it_was_told_stays() -> None:
    """The rest is as it is written now."""
    before = _written((" the", 0, 5), (" rosy", 5, 12), (" statin", 12, 20), (" and", 20, 24))
    spans = ((" The", 0, 5), (" rosuvastatin", 5, 20), (" at", 20, 24), (" night", 24, 30))
    found = _written(*spans, before=before, told=["rosuvastatin", "unsaid"])
    assert _rows(found) == [
        (" The", 0, 5, False),
        (" rosy", 5, 12, False),
        (" statin", 12, 20, False),
        (" at", 20, 24, False),
        (" night", 24, 30, False),
    ]


def test_a_term_that_was_first_written_untold_goes_on_to_prove_itself() -> None:
    """Being told of it afterwards takes nothing away."""
    before = _written((" rosuvastatin", 5, 20))
    found = _written((" Rosuvastatin.", 5, 21), before=before, told=["rosuvastatin"])
    assert _rows(found) == [(" rosuvastatin", 5, 20, False)]


def test_a_word_that_stood_where_two_are_told_now_is_kept_once() -> None:
    """Each word of a term is replaced by what was most of the time there."""
    before = _written((" newark", 4, 10), (" is", 14, 18))
    found = _written(
        (" New", 4, 8), (" York", 8, 14), (" is", 14, 18), before=before, told=["New York"]
    )
    assert _rows(found) == [
        (" newark", 4, 10, False), (" York", 8, 14, True), (" is", 14, 18, False),
    ]  # fmt: skip
    before = _written((" newyork", 4, 14))
    both = _written((" New", 4, 12), (" York", 5, 14), before=before, told=["New York"])
    assert _rows(both) == [(" newyork", 4, 14, False)]


def test_where_nothing_stood_before_a_told_term_proves_nothing() -> None:
    """Audio that is new since the last text, or that the text passed over."""
    before = _written((" the", 0, 5))
    found = _written((" the", 0, 5), (" badge", 5, 12), before=before, told=["badge"])
    assert _rows(found) == [(" the", 0, 5, False), (" badge", 5, 12, True)]
    again = _written((" the", 0, 5), (" badge", 5, 12), before=found, told=["badge"])
    assert _rows(again) == _rows(found)


def test_a_text_without_told_words_replaces_the_last_one() -> None:
    """Even one in which a term had been told."""
    before = _written((" badge", 0, 9), told=["badge"])
    found = _written((" patch", 0, 9), before=before, told=["badge"])
    assert _rows(found) == [(" patch", 0, 9, False)]


CHOICES = (Choice(1, {}, -9.0),)


def test_what_else_might_have_been_written_is_known_from_before_the_prompt() -> None:
    """The same word at the same place keeps it; another word, or another place, has none."""
    first = updated(
        None,
        [replace(word, choices=CHOICES) for word in _words((" a", 0, 9), (" b", 9, 20))],
        told=(),
        samples=SECOND,
    )
    assert [word.choices for word in first.words] == [CHOICES, CHOICES]
    second = _written((" a", 0, 9), (" bee", 9, 20), (" a", 30, 40), before=first, told=("bees",))
    assert [word.choices for word in second.words] == [CHOICES, (), ()]


def test_a_word_that_was_told_gives_way_with_its_choices() -> None:
    """What was written before it was told stays, and so do the odds of what else might be."""
    before = updated(
        None,
        [replace(word, choices=CHOICES) for word in _words((" bee", 9, 20))],
        told=(),
        samples=SECOND,
    )
    after = _written((" bees", 9, 20), before=before, told=("bees",))
    assert [(word.text, word.choices) for word in after.words] == [(" bee", CHOICES)]


def test_fresh_choices_replace_old_ones() -> None:
    """A later untold text has heard more."""
    fresh = (Choice(1, {2: -1.0}, -9.0),)
    old, new = (
        [replace(word, choices=choices) for word in _words((" a", 0, 9))]
        for choices in (CHOICES, fresh)
    )
    before = updated(None, old, told=(), samples=SECOND)
    assert updated(before, new, told=(), samples=SECOND).words[0].choices == fresh
