"""The live pipeline over sounds in which nobody speaks: whatever is written there is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from a2p_engine.evaluation import noise
from a2p_engine.text import plain
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, Term
from streaming.backend import Backend
from streaming.offline import OfflineConfig, transcribe

SILENCE = "silence"
SOUNDS = (SILENCE, "white", "kitchen", "babble", "music")
_LEVEL = 0.05  # of full scale, that of quiet speech
_MINUTE_SAMPLES = 60 * SAMPLE_RATE_HZ


@dataclass(frozen=True, kw_only=True)
class NonspeechResult:
    """What was written while nobody spoke.

    Attributes:
        sound: what there was to hear.
        minutes: of it.
        segments: stretches taken for speech.
        words: written in all.
        terms: of the glossary that were written.
        texts: what was written, where there was any.
    """

    sound: str
    minutes: int
    segments: int
    words: int
    terms: tuple[str, ...]
    texts: tuple[str, ...]


def measure(
    engine: Backend,
    glossary: Sequence[Term],
    minutes: int,
    config: OfflineConfig,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[NonspeechResult]:
    """Caption some minutes of each sound, each minute in a session of its own.

    Args:
        engine: what writes.
        glossary: terms that could be inserted.
        minutes: of each sound.
        config: segmentation and what is asked of the engine.
        seed: of the sounds.
        progress: called after each minute.
    """
    for sound in SOUNDS:
        finals = []
        for minute in range(minutes):
            finals += transcribe(engine, _minute(sound, seed + minute), config, glossary)
            progress()
        yield NonspeechResult(
            sound=sound,
            minutes=minutes,
            segments=len(finals),
            words=sum(len(plain(final.text).split()) for final in finals),
            terms=tuple(hit.term for final in finals for hit in final.terms if hit.used),
            texts=tuple(final.text for final in finals if final.text),
        )


def _minute(sound: str, seed: int) -> Samples:
    if sound == SILENCE:
        return np.zeros(_MINUTE_SAMPLES, np.float32)
    track = noise.track(sound, seed, _MINUTE_SAMPLES / SAMPLE_RATE_HZ)
    return np.asarray(track * _LEVEL, np.float32)
