"""Fit the calibration: evidence of both stages to the probability that a term was spoken.

Development utterances are searched for a large glossary of words they contain and words they do
not; a logistic regression separates the two among the best candidates of each utterance, which are
the only ones whose probability is ever shown.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.calibration import FEATURES, Calibration, sigmoid
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.training.data import FrameData
from a2p_engine.training.texts import read_lines, words_of
from a2p_engine.types import Term

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

CANDIDATES = 100  # best terms of an utterance that take part in the fit
ROUNDS = 2  # the candidates of a round are picked with the fit of the one before
# Where a fit begins: about one nat a phoneme is too much, and short terms have to fit better.
FIRST_GUESS = Calibration(weights=(-6.0, -0.1, 4.0, -6.0, 0.0), bias=-4.0, threshold=0.5)


@dataclass(frozen=True, kw_only=True)
class Example:
    """Evidence of one utterance: one row per term, and whether it was spoken."""

    features: FloatArray
    spoken: npt.NDArray[np.bool_]


def calibrate(
    retrievers: Sequence[Retriever],
    *,
    data: Sequence[Path],
    rare_words: Path,
    glossary_size: int = 10_000,
    seed: int = 0,
) -> Calibration:
    """Fit a calibration on development shards.

    Args:
        retrievers: the same stages with different pronouncers; their own calibration is not used.
            Synthetic speech follows the phonemizer, people do not: a pronouncer of another accent
            than the voices makes the fit expect as much disagreement as two phonemizers have.
        data: directories of shards with frames and texts.
        rare_words: word list; those in a text are its terms, the rest are drawn from.
        glossary_size: terms searched for in each utterance.
        seed: of the draw.

    Raises:
        TrainingError: no utterance contains a rare word.
    """
    frames = FrameData(data)
    rare = sorted(set(read_lines(rare_words)))
    texts = [set(words_of(utterance.text)) for utterance in frames.utterances]
    spoken = sorted(set(rare).intersection(*[set().union(*texts)]))
    if not spoken:
        raise TrainingError("no utterance of the data contains a word of the list")
    others = np.random.default_rng(seed).permutation(sorted(set(rare) - set(spoken)))
    words = [*spoken, *others[: max(0, glossary_size - len(spoken))].tolist()]
    examples = [
        _example(retriever.features(index, frames.frames(number).numpy()), words, text)
        for retriever in retrievers
        for index in [retriever.index([Term(text=word) for word in words])]
        for number, text in enumerate(tqdm(texts, desc="utterances"))
    ]
    fit = FIRST_GUESS
    for _ in range(ROUNDS):
        fit = _fit([_candidates(example, fit) for example in examples])
    source = (
        f"{len(retrievers)} x {len(texts)} development utterances, {len(words)} terms, seed {seed}"
    )
    return replace(fit, threshold=_threshold(examples, fit), source=source)


def _example(
    evidence: tuple[FloatArray, npt.NDArray[np.int32]], words: Sequence[str], text: set[str]
) -> Example:
    """Of a term's pronunciations, the first guess picks the one that counts."""
    rows, term_of = evidence
    order = np.argsort(FIRST_GUESS.logits(rows), kind="stable")
    best = np.full(len(words), -1)
    best[term_of[order]] = order
    said = best >= 0
    return Example(
        features=rows[best[said]],
        spoken=np.array([word in text for word in words])[said],
    )


def _candidates(example: Example, fit: Calibration) -> Example:
    logits = fit.logits(example.features)
    best = np.argpartition(-logits, CANDIDATES)[:CANDIDATES]
    chosen = np.union1d(best, np.flatnonzero(example.spoken))
    return Example(features=example.features[chosen], spoken=example.spoken[chosen])


def _fit(examples: Sequence[Example]) -> Calibration:
    """Logistic regression on standardised features."""
    rows = torch.from_numpy(np.concatenate([example.features for example in examples])).double()
    labels = torch.from_numpy(np.concatenate([e.spoken for e in examples])).double()
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    standard = (rows - mean) / scale
    weights = torch.zeros(len(FEATURES) + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            standard @ weights[:-1] + weights[-1], labels
        )
        value = value + 1e-4 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach()
    raw = found[:-1] / scale
    return Calibration(
        weights=tuple(round(float(weight), 5) for weight in raw),
        bias=round(float(found[-1] - raw @ mean), 5),
        threshold=0.5,
    )


def _threshold(examples: Sequence[Example], fit: Calibration, top_k: int = 10) -> float:
    """The threshold with the best F2 of what is offered.

    Recall counts for more than precision: a wrong term in the prompt costs little, a missing one
    costs the word.
    """
    offered: list[tuple[float, bool]] = []
    for example in examples:
        probability = sigmoid(fit.logits(example.features))
        best = np.argsort(-probability)[:top_k]
        offered += [(float(probability[i]), bool(example.spoken[i])) for i in best]
    offered.sort(reverse=True)
    right = np.cumsum([spoken for _, spoken in offered])
    wanted = sum(int(example.spoken.sum()) for example in examples)
    f2 = 5 * right / (4 * wanted + np.arange(1, len(offered) + 1))
    return round(offered[int(f2.argmax())][0], 3)
