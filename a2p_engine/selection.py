"""Which of the probable terms are offered to the speech LLM, tick by tick over one segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from a2p_engine.retriever.evidence import Evidence
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.text import letters
from a2p_engine.types import Term

CANDIDATES = 100
# A term that is offered counts as so many times its odds from then on, so that neither prompt nor
# caption flickers when evidence wavers about the threshold or between rivals.
HOLD_ODDS = 3.0
# A newcomer is offered when two ticks in a row find it probable enough; at once when it is as
# likely as not, or nearly as likely as a rival that is, or when no tick is to come: half a second
# tells much of what is half said from what it seemed to be.
SURE = 0.5
# Two terms matched on the same stretch of audio are rivals, unless one is a part of the other.
RIVAL_OVERLAP = 0.6
# A rival goes when the odds of the other are so many times better; homophones are left to the
# speech LLM, which knows the context.
RIVAL_ODDS = 4.0
# Text that is committed cannot change any more: a term heard so long before its end still helps to
# spell the next mention alike, but gives way where the prompt has no room for all.
TIME_TO_LIVE_FRAMES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A term that may have been said.

    Attributes:
        term: the term.
        number: its number in the glossary.
        probability: that it was said, calibrated.
        cost: nats of its best match, inf where there is none.
        start: first encoder frame of that match.
        end: one past its last encoder frame.
    """

    term: Term
    number: int
    probability: float
    cost: float
    start: int
    end: int

    @property
    def odds(self) -> float:
        """That it was said, against that it was not."""
        return odds(self.probability)


def odds(probability: float) -> float:
    """Of a probability p, p / (1 - p), bounded."""
    return probability / max(1.0 - probability, 1e-9)


def candidates(evidence: Evidence, index: GlossaryIndex) -> list[Candidate]:
    """The most probable terms, best first; those that are switched off are none."""
    probability = evidence.probability
    count = min(CANDIDATES, len(probability))
    if not count:
        return []
    best = np.argpartition(-probability, count - 1)[:count]
    best = best[probability[best] > 0]
    best = best[np.lexsort((best, -probability[best]))]
    columns = (column[best].tolist() for column in vars(evidence).values())
    return [
        Candidate(term=index[number], number=number, probability=p, cost=cost, start=start, end=end)
        for number, p, cost, start, end in zip(*columns, strict=True)
    ]


class Offering:
    """What one segment's prompt names; a term once offered is not lightly dropped."""

    def __init__(self, carried: Iterable[str] = ()) -> None:
        """Begin a segment.

        Args:
            carried: texts of terms written in the segment before. What was said once is soon said
                again (Church 2000, "Empirical estimates of adaptation", section 1), so they are
                held from the start, as if they had been offered.
        """
        self._held = frozenset(carried)
        self._probable: frozenset[str] = frozenset()  # at the tick before

    def choose(
        self,
        found: Sequence[Candidate],
        *,
        top_k: int,
        threshold: float,
        committed: int = 0,
        final: bool = False,
    ) -> list[Candidate]:
        """At most ``top_k`` terms, most probable first.

        A term is passed over when it is less probable than ``threshold``, when a much more probable
        one claims most of the same audio, when it is another spelling of a more probable one, or
        when it is new and neither itself nor a rival of it ``SURE``.

        Args:
            found: most probable first.
            top_k: most terms that are offered.
            threshold: least probability of a term that is not held.
            committed: encoder frame at which the committed text ends.
            final: whether the segment has been heard to its end.
        """
        kept: list[Candidate] = []
        for candidate in sorted(found, key=self._strength, reverse=True):
            if self._strength(candidate) < odds(threshold):
                break
            if not any(self._yields(candidate, other) for other in kept):
                kept.append(candidate)
        probable = frozenset(candidate.term.text for candidate in kept)
        if not final:
            known = self._held | self._probable
            kept = [each for each in kept if each.term.text in known or _sure(each, kept)]
        self._probable = probable
        kept.sort(key=lambda candidate: candidate.end + TIME_TO_LIVE_FRAMES <= committed)
        chosen = kept[:top_k]
        self._held = frozenset(candidate.term.text for candidate in chosen)
        return sorted(chosen, key=lambda candidate: -candidate.probability)

    def _strength(self, candidate: Candidate) -> float:
        return candidate.odds * (HOLD_ODDS if candidate.term.text in self._held else 1.0)

    def _yields(self, weaker: Candidate, other: Candidate) -> bool:
        if not _overlap(weaker, other):
            return False
        outdone = self._strength(other) >= RIVAL_ODDS * self._strength(weaker)
        return outdone or letters(weaker.term.text) == letters(other.term.text)


def _sure(candidate: Candidate, kept: Sequence[Candidate]) -> bool:
    """Whether a term need not wait: held back, it would lose its place to a rival that does not."""
    return any(
        other.probability >= SURE and (other is candidate or _overlap(candidate, other))
        for other in kept
    )


def _overlap(one: Candidate, other: Candidate) -> bool:
    shared = min(one.end, other.end) - max(one.start, other.start)
    longer = max(one.end - one.start, other.end - other.start)
    return shared > RIVAL_OVERLAP * longer
