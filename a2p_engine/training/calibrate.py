"""Fit the calibration: evidence of both stages to the probability that a term was spoken.

Development utterances are searched for a large glossary of words they contain and words they do
not; a logistic regression separates the two among the best candidates of each utterance, which are
the only ones whose probability is ever shown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from a2p_engine.errors import TrainingError
from a2p_engine.retriever.calibration import (
    FEATURES,
    Background,
    Calibration,
    features,
    length_curves,
    sigmoid,
)
from a2p_engine.retriever.pronunciation import Accent, Pronouncer
from a2p_engine.retriever.retriever import CALIBRATION, Heard, Retriever
from a2p_engine.speech_llm import build_speech_llm
from a2p_engine.training.data import FrameData
from a2p_engine.training.terms import SPOKEN_WORDS, read_spoken_words
from a2p_engine.training.texts import read_lines, words_of
from a2p_engine.types import EAGERNESS, Eagerness, Term

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]

CANDIDATES = 100  # best terms of an utterance that take part in the fit
# Recall counts so many times as much as precision: a wrong term in the prompt costs little, a
# missing one costs the word.
RECALL_WEIGHT: dict[Eagerness, float] = {"cautious": 0.5, "balanced": 2.0, "eager": 4.0}
ROUNDS = 3  # the candidates of a round are picked with the fit of the one before
# Where the first round begins: good matches that are rare by chance.
UNFITTED = Calibration(
    background=Background(mean=(0.0, 2.0, 0.0), deviation=(1.0, 0.2, 0.0)),
    weights=(0.4, -2.0, 0.0),
    bias=0.0,
    thresholds=dict.fromkeys(EAGERNESS, 0.5),
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """Evidence of one utterance, one entry per term, from the pronunciation that fits best."""

    cost: FloatArray
    length: npt.NDArray[np.int32]
    gain: FloatArray
    spoken: npt.NDArray[np.bool_]

    def logits(self, fit: Calibration) -> FloatArray:
        """[N] under a calibration."""
        return fit.logits(self.cost, self.length, self.gain)

    def part(self, which: npt.NDArray[np.int64]) -> Example:
        """Some of the terms."""
        return Example(**{name: values[which] for name, values in vars(self).items()})


def calibrate(
    *,
    weights: Path,
    data: Sequence[Path],
    rare_words: Path,
    speech_llm: str = "whisper-base",
    glossary_size: int = 10_000,
    seed: int = 0,
) -> Path:
    """Fit the calibration of trained heads and write it beside them.

    Synthetic speech follows the phonemizer, people do not: half of the evidence is taken with
    pronunciations of another accent than the voices', so that the fit expects as much disagreement
    as two phonemizers have.

    Args:
        weights: directory with both heads and the words spoken in their training.
        data: directories of development shards, American voices.
        rare_words: word list; those in a text are its terms, the rest are drawn from.
        speech_llm: decides encoder, tokenizer and embeddings.
        glossary_size: terms searched for in each utterance.
        seed: of the draw.

    Raises:
        ModelError: weights are missing or damaged.
        TrainingError: no utterance contains a word of the list that is new to the heads.
    """
    _, decoder = build_speech_llm(speech_llm, "cpu", 1)
    embeddings = torch.from_numpy(decoder.token_embeddings())
    accents: tuple[tuple[Accent, ...], ...] = (("us", "gb"), ("gb",))
    retrievers = [
        Retriever.load(
            weights,
            embeddings=embeddings,
            tokenize=decoder.tokenize,
            pronouncer=Pronouncer(accents=spoken),
            calibration=UNFITTED,
        )
        for spoken in accents
    ]
    path = weights / CALIBRATION
    fit_calibration(
        retrievers,
        data=data,
        rare_words=rare_words,
        trained=read_spoken_words(weights / SPOKEN_WORDS),
        glossary_size=glossary_size,
        seed=seed,
    ).save(path)
    return path


def fit_calibration(
    retrievers: Sequence[Retriever],
    *,
    data: Sequence[Path],
    rare_words: Path,
    trained: Collection[str] = (),
    glossary_size: int = 10_000,
    seed: int = 0,
) -> Calibration:
    """Fit on development shards.

    Args:
        retrievers: the same heads with different pronouncers.
        data: directories of shards with frames and texts.
        rare_words: word list; those in a text are its terms, the rest are drawn from.
        trained: words spoken in training; they are left out, since both heads know them better than
            the terms that a glossary will bring.
        glossary_size: terms searched for in each utterance.
        seed: of the draw.

    Raises:
        TrainingError: no utterance contains a rare word.
    """
    frames = FrameData(data)
    rare = sorted(set(read_lines(rare_words)).difference(trained))
    texts = [set(words_of(utterance.text)) for utterance in frames.utterances]
    spoken = sorted(set(rare).intersection(*[set().union(*texts)]))
    if not spoken:
        raise TrainingError("no utterance of the data contains a word of the list")
    others = np.random.default_rng(seed).permutation(sorted(set(rare) - set(spoken)))
    words = [*spoken, *others[: max(0, glossary_size - len(spoken))].tolist()]
    examples = [
        _example(retriever.evidence(index, frames.frames(number).numpy()), words, text)
        for retriever in retrievers
        for index in [retriever.index([Term(text=word) for word in words])]
        for number, text in enumerate(tqdm(texts, desc="utterances"))
    ]
    fit = replace(UNFITTED, background=_background(examples))
    for _ in range(ROUNDS):
        fit = _fit([_candidates(example, fit) for example in examples], fit.background)
    source = (
        f"{len(retrievers)} x {len(texts)} development utterances, {len(words)} terms, seed {seed}"
    )
    return replace(fit, thresholds=_thresholds(examples, fit), source=source)


def _example(heard: Heard, words: Sequence[str], text: set[str]) -> Example:
    cost, length = heard.match.cost, heard.length
    order = np.argsort(-cost / length, kind="stable")  # the best of a term's is written last
    best = np.full(len(words), -1)
    best[heard.term[order]] = order
    kept = best[best >= 0]
    spoken = np.array([word in text for word in words])[best >= 0]
    return Example(cost=cost[kept], length=length[kept], gain=heard.gain[kept], spoken=spoken)


def _background(examples: Sequence[Example]) -> Background:
    """Least squares over all terms that were not spoken."""
    cost = np.concatenate([example.cost[~example.spoken] for example in examples])
    length = np.concatenate([example.length[~example.spoken] for example in examples])
    curves = length_curves(length)
    mean = np.linalg.lstsq(curves, cost, rcond=None)[0]
    # The mean absolute residual of a normal distribution is sqrt(2 / pi) deviations.
    spread = np.abs(cost - curves @ mean) * np.sqrt(np.pi / 2)
    deviation = np.linalg.lstsq(curves, spread, rcond=None)[0]
    a, b, c = (round(float(x), 5) for x in mean)
    d, e, f = (round(float(x), 5) for x in deviation)
    return Background(mean=(a, b, c), deviation=(d, e, f))


def _candidates(example: Example, fit: Calibration) -> Example:
    best = np.argpartition(-example.logits(fit), CANDIDATES)[:CANDIDATES]
    return example.part(np.union1d(best, np.flatnonzero(example.spoken)))


def _fit(examples: Sequence[Example], background: Background) -> Calibration:
    """Logistic regression on standardised features."""
    parts = [features(background, e.cost, e.length, e.gain) for e in examples]
    rows = torch.from_numpy(np.concatenate(parts)).double()
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
        background=background,
        weights=tuple(round(float(weight), 5) for weight in raw),
        bias=round(float(found[-1] - raw @ mean), 5),
        thresholds=dict.fromkeys(EAGERNESS, 0.5),
    )


def _thresholds(
    examples: Sequence[Example], fit: Calibration, top_k: int = 10
) -> dict[Eagerness, float]:
    """The thresholds with the best F-beta of what is offered, beta as in ``RECALL_WEIGHT``."""
    offered: list[tuple[float, bool]] = []
    for example in examples:
        probability = sigmoid(example.logits(fit))
        best = np.argsort(-probability)[:top_k]
        offered += [(float(probability[i]), bool(example.spoken[i])) for i in best]
    offered.sort(reverse=True)
    right = np.cumsum([spoken for _, spoken in offered])
    wanted = sum(int(example.spoken.sum()) for example in examples)
    count = np.arange(1, len(offered) + 1)
    f_beta = {
        name: (1 + beta**2) * right / (beta**2 * wanted + count)
        for name, beta in RECALL_WEIGHT.items()
    }
    return {name: round(offered[int(scores.argmax())][0], 3) for name, scores in f_beta.items()}
