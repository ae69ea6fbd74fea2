"""Texts that repeat themselves because the model that wrote them did not find out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from a2p_engine.speech_llm.base import TimedWord
from a2p_engine.text import plain

# A text that compresses better than this repeats itself (Whisper paper, section 4.5).
LOOP_COMPRESSION = 2.4
LOOP_BYTES = 40


def loops(text: str) -> bool:
    """Whether a text repeats itself so much that the model must have been looping."""
    data = text.encode()
    return len(data) > LOOP_BYTES and len(data) / len(zlib.compress(data)) > LOOP_COMPRESSION


def without_loop(words: tuple[TimedWord, ...]) -> tuple[TimedWord, ...]:
    """Cut where the text begins to repeat itself without audio to show for it.

    A phrase that is really said twice takes about as long the second time; the words of a loop are
    all aligned to one point, or behind the end of the audio.
    """
    spoken = [plain(word.text) for word in words]
    for at in range(2, len(words)):
        for size in range(2, at + 1):
            copy = words[at : at + size]
            same = spoken[at : at + size] == spoken[at - size : at - size + len(copy)]
            if (
                same
                and len(copy) > 1
                and _span(copy) < 0.3 * _span(words[at - size :][: len(copy)])
            ):
                return words[:at]
    return words


def _span(words: Sequence[TimedWord]) -> int:
    """Samples from the beginning of the first word to the beginning of the last one."""
    return words[-1].start_sample - words[0].start_sample
