"""Figures of a search: recall by depth, kind and stage; precision and calibration of the offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from a2p_engine.evaluation.bootstrap import (
    Bootstrap,
    Estimate,
    FloatArray,
    divided,
    estimate,
)
from a2p_engine.evaluation.retrieval import ALL, TOP_K, Offer, Trial

DEPTHS = (1, 5, 10, 20, 50)
KINDS = ("single_word", "multi_word", "acronym", "seen", "unseen")
BINS = 10


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Share of spoken terms ranked well enough.

    Attributes:
        terms: how many were spoken.
        at: by depth.
    """

    terms: int
    at: dict[int, Estimate]

    def json(self) -> dict[str, Any]:
        """For a report."""
        return {"terms": self.terms} | {f"@{k}": figure.json() for k, figure in self.at.items()}


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Spoken terms that are not among the best that are shown, and what outranks them.

    Attributes:
        terms: how many there are.
        homophone: those outranked by a term that is said in the same way, but was not said.
        one_phoneme: those outranked by one that differs by a phoneme at most, homophones included.
    """

    terms: int
    homophone: int
    one_phoneme: int


@dataclass(frozen=True, kw_only=True)
class OfferFigures:
    """What would be offered at a threshold, at most ten terms at a time.

    Attributes:
        threshold: least probability.
        number: of offers, in all recordings.
        per_recording: mean number.
        precision: share that was spoken.
        recall: share of the spoken terms that was offered.
        calibration_error: expected, of the offers.
        false_per_hour: offers that were not spoken, per hour of audio.
    """

    threshold: float
    number: int
    per_recording: Estimate
    precision: Estimate
    recall: Estimate
    calibration_error: Estimate
    false_per_hour: Estimate

    def json(self) -> dict[str, Any]:
        """For a report."""
        return {k: v.json() if isinstance(v, Estimate) else v for k, v in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One glossary in one condition.

    Attributes:
        condition: ``clean`` or the signal-to-noise ratio in dB.
        size: terms of the glossary.
        recordings: how many were searched.
        missing: spoken terms that the glossary lacks; they count nowhere.
        seconds_per_query: median time to score all terms once, encoder excluded, over all ticks.
        recall: by kind, ``all`` among them.
        missed: terms that recall@10 lacks.
        stages: recall of all terms by each stage alone.
        offers: by the name of the threshold.
        considered: by recording, all that could be offered, for pictures.
    """

    condition: str
    size: int
    recordings: int
    missing: int
    seconds_per_query: float
    recall: dict[str, Recall]
    missed: Missed
    stages: dict[str, Recall]
    offers: dict[str, OfferFigures]
    considered: tuple[tuple[Offer, ...], ...]

    def json(self) -> dict[str, Any]:
        """For a report, without what was only considered."""
        return {
            "condition": self.condition,
            "size": self.size,
            "recordings": self.recordings,
            "not_in_glossary": self.missing,
            "seconds_per_query": round(self.seconds_per_query, 4),
            "recall": {kind: recall.json() for kind, recall in self.recall.items()},
            f"missed@{TOP_K}": vars(self.missed),
            "stages": {stage: recall.json() for stage, recall in self.stages.items()},
            "offered": {name: offers.json() for name, offers in self.offers.items()},
        }


def results(
    trials: Sequence[Trial], thresholds: Mapping[str, float], seed: int = 0
) -> list[Result]:
    """Figures by condition and size; all are resampled alike.

    Args:
        trials: of the search.
        thresholds: operating points by name.
        seed: of the resampling.
    """

    def key(trial: Trial) -> tuple[float, int]:
        return (-np.inf if trial.condition == "clean" else -float(trial.condition), trial.size)

    groups = groupby(sorted(trials, key=key), key)
    return [_result(list(group), thresholds, seed) for _, group in groups]


def _result(trials: Sequence[Trial], thresholds: Mapping[str, float], seed: int) -> Result:
    draws = Bootstrap(len(trials), seed)
    recall = {"all": recall_of(trials, draws)}
    for kind in KINDS:
        mine = recall_of(trials, draws, kind=kind)
        if mine.terms:
            recall[kind] = mine
    stages = {stage for trial in trials for term in trial.spoken for stage in term.ranks}
    return Result(
        condition=trials[0].condition,
        size=trials[0].size,
        recordings=len(trials),
        missing=sum(trial.missing for trial in trials),
        seconds_per_query=float(np.median([seconds for t in trials for seconds in t.step_s])),
        recall=recall,
        missed=_missed(trials),
        stages={s: recall_of(trials, draws, stage=s) for s in sorted(stages - {ALL})},
        offers={name: offers_at(trials, name, level, draws) for name, level in thresholds.items()},
        considered=tuple(trial.offers for trial in trials),
    )


def recall_of(
    trials: Sequence[Trial],
    draws: Bootstrap,
    *,
    stage: str = ALL,
    kind: str | None = None,
) -> Recall:
    """Recall at each depth, of the terms of one kind or of all."""
    ranks = [
        [term.ranks[stage] for term in trial.spoken if kind is None or kind in term.kinds]
        for trial in trials
    ]
    total = [len(listed) for listed in ranks]
    return Recall(
        terms=sum(total),
        at={
            depth: estimate(draws.ratio([sum(r <= depth for r in one) for one in ranks], total))
            for depth in DEPTHS
        },
    )


def _missed(trials: Sequence[Trial]) -> Missed:
    rivals = [term.rival for t in trials for term in t.spoken if term.ranks[ALL] > TOP_K]
    near = [rival for rival in rivals if rival is not None and rival <= 1]
    return Missed(terms=len(rivals), homophone=near.count(0), one_phoneme=len(near))


def offers_at(
    trials: Sequence[Trial], name: str, threshold: float, draws: Bootstrap
) -> OfferFigures:
    """Precision, recall and calibration of what is offered at a threshold."""
    let = [[offer for offer in trial.offers if name in offer.at] for trial in trials]
    count = [len(offered) for offered in let]
    right = [sum(offer.spoken for offer in offered) for offered in let]
    wrong = np.subtract(count, right)
    caught = [sum(offer.listed for offer in offered) for offered in let]
    hours = [trial.audio_s / 3600 for trial in trials]
    return OfferFigures(
        threshold=threshold,
        number=sum(count),
        per_recording=estimate(draws.ratio(count, np.ones(len(trials)))),
        precision=estimate(draws.ratio(right, count)),
        recall=estimate(draws.ratio(caught, [len(trial.spoken) for trial in trials])),
        calibration_error=estimate(_calibration_errors(let, draws)),
        false_per_hour=estimate(draws.ratio(wrong, hours)),
    )


def _calibration_errors(offered: Sequence[Sequence[Offer]], draws: Bootstrap) -> FloatArray:
    gaps = np.array([binned(offers)[2] for offers in offered]).reshape(-1, BINS)
    number = [len(offers) for offers in offered]
    return divided(np.abs(draws.sums(gaps)).sum(axis=1), draws.sums(number))


def binned(offers: Sequence[Offer]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Ten bins of equal width: number of offers, sum of probabilities, sum of (p - spoken).

    The expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3) is the sum of the
    absolute values of the last, divided by the number of offers.
    """
    probability = np.array([offer.probability for offer in offers], np.float64)
    gap = probability - np.array([offer.spoken for offer in offers], np.float64)
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    number, total, gaps = (
        np.bincount(place, weights, minlength=BINS).astype(np.float64)
        for weights in (np.ones(len(place)), probability, gap)
    )
    return number, total, gaps


def precision_recall(
    offers: Sequence[Offer], spoken_terms: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The curve over all thresholds: threshold, precision and recall, [distinct probabilities]."""
    ordered = sorted(offers, key=lambda offer: -offer.probability)
    probability = np.array([offer.probability for offer in ordered])
    last = np.flatnonzero(np.diff(probability, append=-1.0))  # of the offers of one probability
    right = np.cumsum([offer.spoken for offer in ordered])[last]
    caught = np.cumsum([offer.listed for offer in ordered])[last]
    return probability[last], right / (last + 1), caught / max(spoken_terms, 1)
