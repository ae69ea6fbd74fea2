"""Text that has to go on from committed text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2p_engine.speech_llm.base import TimedWord
from a2p_engine.speech_llm.continuation import joined, realigned
from a2p_engine.speech_llm.words import split_words

WORD = st.text(alphabet="abcä", min_size=1, max_size=4)
SENTENCE = st.lists(WORD, max_size=6).map(" ".join)


def timed(text: str) -> list[TimedWord]:
    """A word every 100 samples."""
    words = [word for word, _ in split_words([0], [1.0], lambda _: text)] if text else []
    return [
        TimedWord(text=word, start_sample=100 * at, end_sample=100 * at + 80, probability=0.5)
        for at, word in enumerate(words)
    ]


@pytest.mark.parametrize(
    ("committed", "continuation", "whole"),
    [
        ("", "Good morning", "Good morning"),
        ("Good", "", "Good"),
        ("Good", " morning", "Good morning"),
        ("Good", "morning", "Good morning"),
        ("Good morning", ", all", "Good morning, all"),
        ("Hello.", "Yes", "Hello.Yes"),
        ("你", "好", "你好"),
    ],
)
def test_both_become_one_text(committed: str, continuation: str, whole: str) -> None:
    """A space that a server took away is put back, where the script has any."""
    assert joined(committed, continuation) == whole


@pytest.mark.parametrize(
    ("committed", "heard", "whole"),
    [
        ("", "the patient takes", "the patient takes"),
        ("the patient", "", "the patient"),
        ("the patient", "the patient takes", "the patient takes"),
        ("The patient,", "the patient takes metformin", "The patient, takes metformin"),
        ("the patients", "the patient takes", "the patients takes"),
        ("the patient", "patient takes", "the patient takes"),
        ("the patient", "the old patient takes", "the patient takes"),
        ("the e-mail", "the e mail came", "the e-mail came"),
        ("no", "no no no", "no no no"),
        ("the patient", "a patient takes", "the patient takes"),
        ("on warfarin", "on warfare in the", "on warfarin the"),
        ("你好", "你们好吗", "你好吗"),
    ],
)
def test_a_hypothesis_goes_on_from_where_the_committed_text_ends(
    committed: str, heard: str, whole: str
) -> None:
    """Words it spells otherwise, adds or lacks are neither repeated nor lost."""
    found = realigned(timed(heard), committed)
    assert "".join(word.text for word in found).strip() == whole


def test_committed_words_take_the_time_of_what_they_replace() -> None:
    """What follows keeps its own."""
    found = realigned(timed("the e mail came"), "the e-mail")
    assert [word.text for word in found] == ["the", " e-mail", " came"]
    assert found[-1].start_sample == 300
    assert found[0].start_sample == 0
    assert found[0].end_sample == found[1].start_sample
    assert found[1].end_sample == 280


@given(SENTENCE, SENTENCE)
def test_the_result_begins_with_the_committed_text_and_ends_as_heard(
    committed: str, heard: str
) -> None:
    """Whatever was heard; without contradiction nothing is changed."""
    text = "".join(word.text for word in realigned(timed(heard), committed)).strip()
    assert text.startswith(committed)
    whole = f"{committed} {heard}".strip()
    same = "".join(word.text for word in realigned(timed(whole), committed)).strip()
    assert same == whole
