"""Which of the probable terms are offered to the speech LLM."""

from __future__ import annotations

import numpy as np

from a2p_engine.retriever.retriever import Evidence

CANDIDATES = 100
# Two terms matched on the same stretch of audio are rivals, unless one is a part of the other.
RIVAL_OVERLAP = 0.6
# A rival goes when the odds of the other are so many times better; homophones are left to the
# speech LLM, which knows the context.
RIVAL_ODDS = 4.0
_NEVER = 1e-30  # a term that is switched off has probability zero, and no threshold offers it


def select(evidence: Evidence, *, top_k: int, threshold: float) -> list[int]:
    """Places in the evidence of at most ``top_k`` terms, most probable first.

    A term is passed over when it is less probable than ``threshold``, or when a much more probable
    one claims most of the same audio.
    """
    probability = evidence.probability
    count = min(CANDIDATES, len(probability))
    if not count or not top_k:
        return []
    best = np.argpartition(-probability, count - 1)[:count]
    best = best[np.lexsort((best, -probability[best]))]
    chosen: list[int] = []
    for term in best[probability[best] >= max(threshold, _NEVER)]:
        if not any(_rivals(evidence, int(term), other) for other in chosen):
            chosen.append(int(term))
        if len(chosen) == top_k:
            break
    return chosen


def _rivals(evidence: Evidence, one: int, other: int) -> bool:
    if _odds(evidence.probability[other]) < RIVAL_ODDS * _odds(evidence.probability[one]):
        return False
    start = max(evidence.start[one], evidence.start[other])
    end = min(evidence.end[one], evidence.end[other])
    longer = max(
        evidence.end[one] - evidence.start[one], evidence.end[other] - evidence.start[other]
    )
    return bool(end - start > RIVAL_OVERLAP * longer)


def _odds(probability: float) -> float:
    return float(probability / max(1.0 - probability, 1e-9))
