"""Answers of servers to words with times and probabilities."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import soundfile

from a2p_engine.speech_llm.openai_replies import Span, after, text_of, timed_words, tokens_of, wav

HZ = 16_000
AUDIO = np.ones(4 * HZ, np.float32)


def test_tokens_carry_probabilities_of_the_same_text_alone() -> None:
    """Characters may be split between tokens; log-probabilities of another text are not used."""
    cafe = "Café".encode()
    pieces = [(cafe[:4], math.log(0.5)), (cafe[4:], math.log(0.25))]
    tokens = tokens_of("Café", pieces)
    assert [probability for _, probability in tokens] == pytest.approx([0.5, 0.25])
    assert text_of(tokens) == "Café"
    assert [(word.text, word.probability) for word in timed_words(tokens, (), AUDIO)] == [
        ("Café", pytest.approx(0.375))
    ]
    assert tokens_of("Tea", pieces) == ((b"Tea", 1.0),)
    assert tokens_of("", ()) == ()


def test_what_stands_before_the_marker_is_cut_even_within_a_token() -> None:
    """Without a marker all stays."""
    tokens = ((b"language English<asr", 0.9), (b"_text>Good", 0.8), (b" day", 0.7))
    assert after(tokens, "<asr_text>") == ((b"Good", 0.8), (b" day", 0.7))
    assert after(tokens[2:], "<asr_text>") == tokens[2:]
    assert after(((b"language English<asr_text>", 0.9),), "<asr_text>") == ()


def test_words_are_placed_in_the_servers_words() -> None:
    """Which lack spaces and punctuation; the pause between them stays."""
    spans = (
        Span(text="Good", start_s=0.5, end_s=1.0, probability=0.9),
        Span(text="day", start_s=2.0, end_s=2.5),
    )
    first, second = timed_words(((b" Good, day.\n", 0.6),), spans, AUDIO)
    assert (first.text, first.start_sample, first.end_sample) == (" Good,", HZ // 2, HZ)
    assert (second.text, second.start_sample, second.end_sample) == (" day.", 2 * HZ, 5 * HZ // 2)
    assert (first.probability, second.probability) == (0.9, 0.6)


def test_words_share_a_segment_by_their_letters() -> None:
    """A span may hold several words, and a word several spans."""
    segment = (Span(text="a bcd", start_s=1.0, end_s=2.0),)
    one, three = timed_words(((b"a bcd", 1.0),), segment, AUDIO)
    assert (one.start_sample, one.end_sample) == (HZ, 5 * HZ // 4)
    assert (three.start_sample, three.end_sample) == (5 * HZ // 4, 2 * HZ)
    halves = (Span(text="ab", start_s=1, end_s=2), Span(text="cd", start_s=3, end_s=9))
    (word,) = timed_words(((b"abcd", 1.0),), halves, AUDIO)
    assert (word.start_sample, word.end_sample) == (HZ, 4 * HZ)  # not beyond the audio


@pytest.mark.parametrize("text", ["Good day", "...", "Hello — there"])
def test_times_of_another_text_are_not_used(text: str) -> None:
    """Words are spread over the sound instead, also marks without letters."""
    words = timed_words(((text.encode(), 1.0),), (Span(text="Bye", start_s=0, end_s=1),), AUDIO)
    assert "".join(word.text for word in words) == text
    assert (words[0].start_sample, words[-1].end_sample) == (0, len(AUDIO))


def test_nothing_said_gives_no_words() -> None:
    """Blank answers included."""
    assert timed_words((), (), AUDIO) == ()
    assert timed_words(((b" \n", 1.0),), (), AUDIO) == ()


def test_audio_is_sent_as_16_bit_wav() -> None:
    """What is too loud is clipped instead of turned around."""
    samples, rate_hz = soundfile.read(io.BytesIO(wav(np.array([0.5, 1.5, -1.5], np.float32))))
    assert rate_hz == HZ
    assert samples == pytest.approx([0.5, 1.0, -1.0], abs=1e-4)
