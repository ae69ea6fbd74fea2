"""Results of Deepgram's live interface: interims, finals, and what answers a Finalize."""

from __future__ import annotations

import uuid

import pytest

from a2p_engine.types import Word
from streaming.dialects.deepgram import plain
from streaming.events import EndReason, Flushed
from tests.streaming.dialects.deepgram_core import (
    TEXT,
    WORDS,
    final,
    listening,
    one,
    partial,
    sent,
    told,
)

# Results


def test_an_interim_has_everything_that_clients_read() -> None:
    """Times are seconds, confidence is that of the words, the transcript is as written."""
    assert one(listening(), partial()) == {
        "type": "Results",
        "channel_index": [0, 1],
        "start": 0.8,
        "duration": 1.8,
        "is_final": False,
        "speech_final": False,
        "from_finalize": False,
        "channel": {
            "alternatives": [
                {
                    "transcript": TEXT,
                    "confidence": 0.9,
                    "words": [
                        {
                            "word": word,
                            "start": start,
                            "end": end,
                            "confidence": confidence,
                            "punctuated_word": written,
                        }
                        for word, start, end, confidence, written in (
                            ("give", 1.0, 1.25, 0.9, "Give"),
                            ("apixaban", 1.25, 1.875, 0.5, "apixaban,"),
                            ("tom's", 1.875, 2.5, 0.99, "Tom's."),
                        )
                    ],
                }
            ]
        },
        "metadata": {
            "request_id": "r-1",
            "model_info": {"name": "whisper-base", "version": "unknown", "arch": "whisper"},
            "model_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, "whisper-base")),
        },
    }


def test_interims_and_the_final_share_their_start() -> None:
    """That is how a client knows what replaces what."""
    dialect = listening()
    messages = told(dialect, partial(), partial(revision=2, volatile=" Tom."), final())
    assert {message["start"] for message in messages} == {0.8}
    assert [message["is_final"] for message in messages] == [False, False, True]
    assert messages[-1]["duration"] == 2.2


@pytest.mark.parametrize(
    ("reason", "endpointing", "speech_final"),
    [
        ("endpoint", "300", True),
        ("endpoint", "false", False),
        ("max_length", "300", False),
        ("flush", "false", True),
        ("stop", "false", True),
    ],
)
def test_speech_final_tells_that_nothing_of_the_utterance_follows(
    reason: EndReason, endpointing: str, speech_final: bool
) -> None:
    """At the endpoint if it was asked for, at a flush and at the end; not at a cut."""
    message = one(listening(f"endpointing={endpointing}"), final(reason))
    assert message["is_final"] is True and message["speech_final"] is speech_final


def test_the_confidence_is_the_upper_median_of_the_words() -> None:
    """It is one of the words' own, and 0 where there is none."""
    dialect = listening()
    message = one(dialect, final(words=WORDS[:2]))
    assert message["channel"]["alternatives"][0]["confidence"] == 0.9
    message = one(dialect, final(text="", words=()))
    assert message["channel"]["alternatives"] == [
        {"transcript": "", "confidence": 0.0, "words": []}
    ]


@pytest.mark.parametrize(
    ("query", "transcript"),
    [
        ("", TEXT),
        ("punctuate=true", TEXT),
        ("punctuate=false", "give apixaban tom's"),
        ("punctuate=False&smart_format=True", TEXT),
    ],
)
def test_case_and_punctuation_go_only_when_they_are_refused(query: str, transcript: str) -> None:
    """Words have both forms in any case."""
    (said,) = one(listening(query), final())["channel"]["alternatives"]
    assert said["transcript"] == transcript
    assert [word["punctuated_word"] for word in said["words"]] == ["Give", "apixaban,", "Tom's."]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("Tom's.", "tom's"), ("«C-17»", "c-17"), ("--", ""), ("", ""), ("3.5", "3.5"), ("É", "é")],
)
def test_a_plain_word_has_no_punctuation_around_it(written: str, expected: str) -> None:
    """What is inside of it stays."""
    assert plain(written) == expected


def test_a_word_of_punctuation_alone_keeps_it() -> None:
    """A word is never empty."""
    dash = Word(text=" --", start_sample=0, end_sample=1, probability=1)
    (said,) = one(listening(), final(words=(dash,)))["channel"]["alternatives"]
    assert said["words"][0]["word"] == said["words"][0]["punctuated_word"] == "--"


@pytest.mark.parametrize("query", ["language=multi", "detect_language=true"])
def test_the_language_is_told_when_it_was_asked(query: str) -> None:
    """Of the transcript and of each word."""
    (said,) = one(listening(query), final(language="de"))["channel"]["alternatives"]
    assert said["languages"] == ["de"] and {word["language"] for word in said["words"]} == {"de"}
    (said,) = one(listening("language=de"), final(language="de"))["channel"]["alternatives"]
    assert "languages" not in said and "language" not in said["words"][0]


# Finalize


def test_a_finalize_is_answered_by_the_final_it_makes() -> None:
    """Once, although ``flushed`` follows."""
    dialect = listening()
    sent(dialect, type="Finalize")
    message, *rest = told(dialect, final("flush"), Flushed())
    assert message["from_finalize"] and message["is_final"] and message["speech_final"] and not rest
    assert not one(dialect, final())["from_finalize"]


def test_a_finalize_with_nothing_to_say_is_answered_too() -> None:
    """By an empty final where the audio is, as clients wait for it."""
    dialect = listening()
    told(dialect, final())
    sent(dialect, type="Finalize")
    message = one(dialect, Flushed())
    assert message["from_finalize"] and message["is_final"] and message["speech_final"]
    assert (message["start"], message["duration"]) == (3.0, 0.0)
    assert message["channel"]["alternatives"][0]["transcript"] == ""


def test_finals_of_what_was_said_before_do_not_answer_it() -> None:
    """Only the one that it cut short."""
    dialect = listening()
    sent(dialect, type="Finalize")
    messages = told(dialect, final(), final("flush"), Flushed())
    assert [message["from_finalize"] for message in messages] == [False, True]


def test_each_finalize_is_answered() -> None:
    """In order, however close they follow each other."""
    dialect = listening()
    for _ in range(3):
        sent(dialect, type="Finalize")
    messages = told(dialect, final("flush"), Flushed(), Flushed(), Flushed(), Flushed())
    transcripts = [one["channel"]["alternatives"][0]["transcript"] for one in messages]
    assert transcripts == [TEXT, "", ""]
    assert all(message["from_finalize"] for message in messages)
