"""Hypotheses in short."""

from __future__ import annotations

from a2p_engine.speech_llm.base import TimedWord

HZ = 16_000


def timed(*words: tuple[str, float]) -> tuple[TimedWord, ...]:
    """Words that begin and end at so many seconds, of which the model is sure."""
    return tuple(
        TimedWord(
            text=f" {text}", start_sample=int(at * HZ), end_sample=int(at * HZ), probability=1.0
        )
        for text, at in words
    )


def text_of(words: tuple[TimedWord, ...]) -> str:
    """As they are read."""
    return "".join(word.text for word in words).strip()
