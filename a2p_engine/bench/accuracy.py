"""How far the scores of a running session are from the formulas computed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from a2p_engine.bench.stage import TOP, Stage
from a2p_engine.ops.term_score import State, reference
from a2p_engine.retriever.folded import FoldedHead
from a2p_engine.retriever.term_scorer import Chunk

MOST_TERMS = 2_000
CHUNK_FRAMES = (13, 25, 13)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Differences over some random terms after three chunks of audio.

    Attributes:
        terms: how many were compared.
        spread: standard deviation of the scores over terms.
        score: largest absolute difference of a term's score, which is a log odds without its prior.
        log_prob: largest absolute difference of the log-probability that a term was spoken.
        same_top: of the ten best terms, the share that float64 ranks among its ten best.
    """

    terms: int
    spread: float
    score: float
    log_prob: float
    same_top: float

    @classmethod
    def measure(cls, stage: Stage, seed: int) -> Accuracy:
        """Compare a random subset of the glossary."""
        count = min(MOST_TERMS, len(stage.glossary))
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(len(stage.glossary), count, replace=False))
        gain = _heard(stage)
        place = torch.from_numpy(chosen).to(gain.device)
        score = stage.index.scores(gain)[0, place].double()
        logit = stage.index.scores(gain + stage.table.priors)[0, place].double()
        true_score, true_logit = _true_scores(stage, chosen)
        return cls(
            terms=count,
            spread=float(true_score.std()) if count > 1 else 0.0,
            score=float((score - true_score).abs().max()),
            log_prob=float((_log_prob(logit) - _log_prob(true_logit)).abs().max()),
            same_top=_overlap(score, true_score),
        )


def _heard(stage: Stage) -> Tensor:
    """[1, V] gain of a session after all chunks, one after the other."""
    hearing, begin = stage.scorer.start(), 0
    for count in CHUNK_FRAMES:
        gain = stage.scorer.hear([Chunk(hearing, stage.frames(begin, count), count)])
        begin += count
    return gain


def _true_scores(stage: Stage, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """[N] scores and logits of some terms in float64, by the plain form and from all audio."""
    device = stage.model.recording.device
    parts = [
        stage.glossary.token_ids[slice(*stage.glossary.offsets[number : number + 2])]
        for number in chosen
    ]
    distinct, rows = np.unique(np.concatenate(parts), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    where = torch.from_numpy(rows).to(device), torch.from_numpy(offsets).to(device)
    gain, prior = _true_gain(stage, torch.from_numpy(distinct).long().to(device))
    scores = gain.new_empty(2, len(chosen))
    reference.pool(torch.stack([gain, gain + prior]), *where, gain.new_zeros(()), scores)
    return scores[0], scores[1]


def _true_gain(stage: Stage, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """[V] gain and [V] prior of some tokens."""
    head = _double(stage.model.head)
    queries, priors = head.tokens(stage.model.embeddings[tokens].double())
    keys, values = head.frames(stage.frames(0, sum(CHUNK_FRAMES)).double())
    count = torch.tensor([keys.shape[1]])
    gain = priors.new_empty(1, len(tokens))
    nothing = priors.new_zeros(1, head.heads, len(tokens))
    state = State(nothing - torch.inf, nothing.clone())
    blocks = queries.permute(1, 2, 0)[None]  # [1, H, d, V]
    reference.attend(blocks, keys[None], values[None], count, count, [state], gain)
    return gain[0], priors


def _double(head: FoldedHead) -> FoldedHead:
    tensors = {k: v.double() for k, v in vars(head).items() if isinstance(v, Tensor)}
    return FoldedHead(heads=head.heads, **tensors)


def _log_prob(logit: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(logit)


def _overlap(score: Tensor, true_score: Tensor) -> float:
    found = [set(reference.top_k(s, TOP)[1].tolist()) for s in (score, true_score)]
    return len(found[0] & found[1]) / len(found[1])
