"""Tokens to words, and estimated times."""

from __future__ import annotations

import numpy as np
import pytest

from a2p_engine.speech_llm.words import speech_bounds, split_words, spread_words
from tests.a2p_engine.speech_llm import tiny

TOKENIZER = tiny.tokenizer()


def _split(text: str) -> list[str]:
    tokens = TOKENIZER.encode(text).ids
    found = split_words(tokens, [0.5] * len(tokens), lambda ids: TOKENIZER.decode(list(ids)))
    return [word for word, _ in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the heart, not the lung.", ["the", " heart,", " not", " the", " lung."]),
        ("well-known: it's 3.5 mg", ["well-known:", " it's", " 3.5", " mg"]),
        ("你好!世界。", ["你", "好!", "世", "界。"]),
        ("在Paris 很好", ["在", "Paris", " 很", "好"]),
        ("café déjà", ["café", " déjà"]),
        ("“quoted” text", ["“quoted”", " text"]),
        ("", []),
    ],
)
def test_words_joined_are_the_text(text: str, words: list[str]) -> None:
    """Punctuation belongs to the word before; a Han character is a word, split bytes or not."""
    assert _split(text) == words
    assert "".join(words) == text


def test_a_words_probability_is_the_mean_of_its_tokens() -> None:
    """Two tokens of 0.2 and 0.6 make 0.4."""
    tokens = TOKENIZER.encode("in the").ids
    assert len(tokens) == 2
    decode = lambda ids: TOKENIZER.decode(list(ids))  # noqa: E731
    assert split_words(tokens, [0.2, 0.6], decode) == [("in", 0.2), (" the", 0.6)]
    tokens = TOKENIZER.encode("her").ids
    found = split_words(tokens, [0.2, 0.6], decode)
    assert found == [("her", pytest.approx(0.4))]


def test_half_a_character_at_the_end_is_kept_as_it_is() -> None:
    """An answer that was cut in the middle of a character loses nothing before it."""
    tokens = TOKENIZER.encode("ok 你").ids[:-1]
    found = split_words(tokens, [1.0] * len(tokens), lambda ids: TOKENIZER.decode(list(ids)))
    assert found[0] == ("ok", 1.0)
    assert "".join(text for text, _ in found).startswith("ok ")


def test_times_follow_letters_between_the_first_sound_and_the_last() -> None:
    """Silence at both ends is nobody's; six letters take twice as long as three."""
    samples = np.zeros(16_000, np.float32)
    samples[3_200:12_800] = np.sin(np.arange(9_600) / 5)
    assert speech_bounds(samples) == (3_200, 12_800)
    words = spread_words([("abc", 1.0), (" abcdef", 0.5)], samples)
    assert [(w.start_sample, w.end_sample) for w in words] == [(3_200, 6_400), (6_400, 12_800)]
    assert [w.probability for w in words] == [1.0, 0.5]


def test_nothing_to_spread_and_nothing_to_spread_over() -> None:
    """No words give none; without audio all times are 0."""
    assert spread_words([], np.zeros(100, np.float32)) == ()
    assert spread_words([("a", 1.0)], np.zeros(0, np.float32))[0].end_sample == 0
