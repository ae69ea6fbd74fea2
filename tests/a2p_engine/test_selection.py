"""Selection: threshold, number, and rivals for the same stretch of audio."""

from __future__ import annotations

import numpy as np

from a2p_engine.retriever.retriever import Evidence
from a2p_engine.selection import select


def _evidence(*rows: tuple[float, int, int]) -> Evidence:
    probability, start, end = zip(*rows, strict=True)
    return Evidence(
        np.arange(len(rows), dtype=np.int32),
        np.array(probability, np.float32),
        np.zeros(len(rows), np.float32),
        np.array(start, np.int32),
        np.array(end, np.int32),
    )


def test_the_most_probable_above_the_threshold() -> None:
    """Order by probability, none below the threshold, no more than asked for."""
    evidence = _evidence((0.2, 0, 10), (0.9, 20, 30), (0.7, 40, 50), (0.8, 60, 70))
    assert select(evidence, top_k=10, threshold=0.5) == [1, 3, 2]
    assert select(evidence, top_k=2, threshold=0.5) == [1, 3]
    assert select(evidence, top_k=0, threshold=0.5) == []


def test_of_two_terms_on_the_same_audio_the_better_one_stays() -> None:
    """A sound-alike of a much better match is not offered; a part of a longer term is."""
    evidence = _evidence((0.9, 10, 30), (0.6, 12, 30), (0.7, 10, 18))
    assert select(evidence, top_k=10, threshold=0.5) == [0, 2]


def test_homophones_are_both_offered() -> None:
    """Equally probable terms on the same audio are for the speech LLM to tell apart."""
    assert select(_evidence((0.9, 10, 30), (0.88, 10, 30)), top_k=10, threshold=0.5) == [0, 1]


def test_an_empty_glossary_offers_nothing() -> None:
    """No terms, no candidates."""
    none = np.zeros(0, np.float32)
    spans = np.zeros(0, np.int32)
    assert select(Evidence(spans, none, none, spans, spans), top_k=10, threshold=0.1) == []
