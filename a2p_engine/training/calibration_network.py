"""Fit the network that gives candidates their probability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from a2p_engine.retriever.calibration import FINAL, FORK, KNOWN, READ, SPELT, Network
from a2p_engine.threads import alone

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

UNITS = 16
STEPS = 1_500
EXAMPLES_PER_STEP = 64
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 0.1
FIRST_INTERCEPT = -4.0  # most candidates were not said


@dataclass(frozen=True, kw_only=True)
class Example:
    """Candidates of one recording in one glossary.

    Attributes:
        recording: its number.
        size: of the glossary.
        features: [M, F] of ``calibration.FINAL``.
        claimed: [M, M] share of a candidate's audio that another one claims.
        spoken: [M], whether the text of the recording contains the term.
        seconds: of the recording; 0 for one that was not heard to its end.
    """

    recording: int
    size: int
    features: FloatArray
    claimed: FloatArray
    spoken: BoolArray
    seconds: float

    def without(self, *names: str) -> Example:
        """The same as if some features were not known."""
        features = self.features.copy()
        features[:, [FINAL.index(name) for name in names]] = 0
        return replace(self, features=features)

    def views(self) -> tuple[Example, Example, Example]:
        """As it is; without the odds of what might have been written; without any text."""
        return (
            self,
            self.without(*FORK, "weighed"),
            self.without(*READ, *SPELT, *FORK, *KNOWN),
        )


class _Calibrator(nn.Module):
    """``calibration.Network`` on standardised features, to be trained."""

    mean: Tensor
    scale: Tensor

    def __init__(self, rows: Tensor) -> None:
        """Standardise by the candidates ``rows`` [K, F]."""
        super().__init__()
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("scale", rows.std(0) + 1e-6)
        self.linear = nn.Linear(len(FINAL), 1)
        self.hidden = nn.Linear(len(FINAL), UNITS)
        self.output = nn.Linear(UNITS, 1, bias=False)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.fill_(FIRST_INTERCEPT)
            self.output.weight.mul_(0.1)

    def forward(self, rows: Tensor) -> Tensor:
        """Features [..., F] to logits [...]."""
        standard = (rows - self.mean) / self.scale
        hidden = torch.tanh(self.hidden(standard))
        logits: Tensor = self.linear(standard) + self.output(hidden)
        return logits[..., 0]

    def export(self) -> Network:
        """The same function of features as they come."""
        return Network(
            linear=self._folded(self.linear)[0],
            hidden=self._folded(self.hidden),
            output=_rounded(self.output.weight[0]),
        )

    def _folded(self, layer: nn.Linear) -> tuple[tuple[float, ...], ...]:
        raw = layer.weight / self.scale
        rows = torch.cat([raw, (layer.bias - raw @ self.mean)[:, None]], dim=1)
        return tuple(_rounded(row) for row in rows)


def fit_network(examples: Sequence[Example], seeds: int = 1) -> Network:
    """Maximum likelihood of ``calibration.probabilities``, of examples in all their views.

    Args:
        examples: candidates and which of them were said.
        seeds: networks that are fitted from other first weights and in another order; their mean is
            one network that has the units of all.
    """
    views = [view for example in examples for view in example.views()]
    with alone():  # several threads take longer over so little
        networks = [_fitted(views, seed) for seed in range(seeds)]
    return Network(
        linear=_rounded(np.mean([network.linear for network in networks], axis=0)),
        hidden=tuple(row for network in networks for row in network.hidden),
        output=_rounded(np.concatenate([network.output for network in networks]) / seeds),
    )


def _fitted(examples: Sequence[Example], seed: int) -> Network:
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Calibrator(torch.from_numpy(np.concatenate([e.features for e in examples])))
    optimiser = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        drawn = torch.randint(len(examples), (EXAMPLES_PER_STEP,), generator=random)
        rows, claims, labels, real = _padded([examples[number] for number in drawn.tolist()])
        loss = _surprise(module(rows), claims, labels, real) / EXAMPLES_PER_STEP
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return module.export()


def _surprise(logits: Tensor, claims: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """Negative log-likelihood of what was said, summed."""
    logits = logits.masked_fill(~real, -1e3).clamp(max=40)
    top = logits.detach().amax(1, keepdim=True).clamp(min=0)
    odds = torch.exp(logits - top)
    rivals = (claims @ odds[..., None])[..., 0]
    probability = (odds / (torch.exp(-top) + rivals)).clamp(1e-7, 1 - 1e-6)
    each = labels * probability.log() + (1 - labels) * (-probability).log1p()
    return -each[real].sum()


def _padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features [E, M, F], claims [E, M, M], labels [E, M] and what of them is real [E, M]."""
    most = max(len(example.spoken) for example in examples)
    rows = torch.zeros(len(examples), most, len(FINAL))
    claims = torch.zeros(len(examples), most, most)
    labels = torch.zeros(len(examples), most)
    real = torch.zeros(len(examples), most, dtype=torch.bool)
    for number, example in enumerate(examples):
        size = len(example.spoken)
        rows[number, :size] = torch.from_numpy(example.features)
        claims[number, :size, :size] = torch.from_numpy(example.claimed)
        labels[number, :size] = torch.from_numpy(example.spoken)
        real[number, :size] = True
    return rows, claims, labels, real


def _rounded(row: Iterable[float | Tensor]) -> tuple[float, ...]:
    return tuple(round(float(weight), 5) for weight in row)
