"""Figures of a comparison: word errors in terms and elsewhere, terms found, terms made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from a2p_engine.evaluation.bootstrap import Bootstrap, Estimate, divided, estimate
from a2p_engine.evaluation.glossary_plan import Listing
from a2p_engine.evaluation.systems import NONE, ORACLE, Outcome
from a2p_engine.evaluation.words import TermFinder, Words, normalised, split_errors
from a2p_engine.manifest import Recording

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """One system with one glossary; rates are shares of words, None without reference texts.

    Attributes:
        size: terms of the glossary.
        system: its name.
        wer: word error rate.
        u_wer: that of words outside the utterance's terms.
        b_wer: that of words in them.
        u_wer_change: less that of the system without a glossary.
        b_wer_ratio: divided by that of the system without a glossary.
        oracle_share: of the B-WER that the oracle list saves, how much this saves.
        term_recall: share of the spoken terms that were written.
        false_insertions: terms of the glossary that were written and not said.
        false_per_hour: the same, per hour of audio.
        added_per_hour: those that the system without a glossary did not write.
        prompted: mean number of terms in the prompt.
        seconds: mean time a recording, encoder not counted.
    """

    size: int
    system: str
    wer: Estimate
    u_wer: Estimate
    b_wer: Estimate
    u_wer_change: Estimate
    b_wer_ratio: Estimate
    oracle_share: Estimate
    term_recall: Estimate
    false_insertions: int
    false_per_hour: Estimate
    added_per_hour: Estimate
    prompted: float
    seconds: float

    def json(self) -> dict[str, Any]:
        """For a report."""
        return {k: v.json() if isinstance(v, Estimate) else v for k, v in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class _Score:
    """Counts of one recording.

    Attributes:
        errors: biased errors, biased words, other errors, other words.
        terms: spoken terms.
        found: of them, how many were written.
        false: terms of the glossary that were written and not said.
    """

    errors: tuple[int, int, int, int]
    terms: int
    found: int
    false: frozenset[Words]


def results(
    recordings: Sequence[Recording],
    durations_h: Sequence[float],
    listings: Sequence[Listing],
    outcomes: Mapping[tuple[str, str, int], Outcome],
    systems: Sequence[str],
) -> list[SystemResult]:
    """Score all outcomes; every figure is resampled alike.

    Args:
        recordings: what was said.
        durations_h: hours of each.
        listings: the glossaries.
        outcomes: by recording, system and size.
        systems: in the order of the report.
    """
    draws = Bootstrap(len(recordings))
    found = []
    for listing in listings:
        finder = TermFinder(term.text for term in listing.terms)
        table = {
            system: [
                outcomes[r.id, system, 0 if system in (NONE, ORACLE) else listing.size]
                for r in recordings
            ]
            for system in systems
        }
        scores = {
            system: [_score(*pair, finder) for pair in zip(recordings, mine, strict=True)]
            for system, mine in table.items()
        }
        hours = _hours(recordings, durations_h)
        for system, mine in table.items():
            found.append(_result(listing.size, system, mine, scores, hours, draws))
    return found


def _hours(recordings: Sequence[Recording], durations_h: Sequence[float]) -> FloatArray:
    """Of audio whose text is known: nothing can be found false in the rest."""
    known = [recording.text is not None for recording in recordings]
    return np.where(known, durations_h, 0.0).astype(np.float64)


def _score(recording: Recording, outcome: Outcome, finder: TermFinder) -> _Score:
    written = normalised(outcome.text)
    terms = {normalised(term) for term in recording.terms} - {()}
    found = sum(_contains(written, term) for term in terms)
    if recording.text is None:
        return _Score(errors=(0, 0, 0, 0), terms=len(terms), found=found, false=frozenset())
    said = normalised(recording.text)
    split = split_errors(said, written, terms)
    false = finder.find(written) - finder.find(said) - terms
    return _Score(
        errors=(split.biased_errors, split.biased_words, split.other_errors, split.other_words),
        terms=len(terms),
        found=found,
        false=frozenset(false),
    )


def _contains(words: Words, term: Words) -> bool:
    size = len(term)
    return any(words[at : at + size] == term for at in range(len(words) - size + 1))


def _result(
    size: int,
    system: str,
    outcomes: Sequence[Outcome],
    scores: Mapping[str, Sequence[_Score]],
    hours: FloatArray,
    draws: Bootstrap,
) -> SystemResult:
    mine, plain = scores[system], scores[NONE]
    wer, u_wer, b_wer = _rates(mine, draws)
    _, u_none, b_none = _rates(plain, draws)
    share = np.full_like(b_wer, np.nan)
    if ORACLE in scores:
        share = divided(b_none - b_wer, b_none - _rates(scores[ORACLE], draws)[2])
    false = [len(score.false) for score in mine]
    added = [len(score.false - base.false) for score, base in zip(mine, plain, strict=True)]
    return SystemResult(
        size=size,
        system=system,
        wer=estimate(wer),
        u_wer=estimate(u_wer),
        b_wer=estimate(b_wer),
        u_wer_change=estimate(u_wer - u_none),
        b_wer_ratio=estimate(divided(b_wer, b_none)),
        oracle_share=estimate(share),
        term_recall=estimate(draws.ratio([s.found for s in mine], [s.terms for s in mine])),
        false_insertions=sum(false),
        false_per_hour=estimate(draws.ratio(false, hours)),
        added_per_hour=estimate(draws.ratio(added, hours)),
        prompted=round(float(np.mean([len(outcome.prompted) for outcome in outcomes])), 2),
        seconds=round(float(np.mean([outcome.seconds for outcome in outcomes])), 4),
    )


def _rates(scores: Sequence[_Score], draws: Bootstrap) -> tuple[FloatArray, FloatArray, FloatArray]:
    """WER, U-WER and B-WER: [1 + R] each."""
    sums = draws.sums([score.errors for score in scores])
    biased, biased_words, other, other_words = sums.T
    return (
        divided(biased + other, biased_words + other_words),
        divided(other, other_words),
        divided(biased, biased_words),
    )
