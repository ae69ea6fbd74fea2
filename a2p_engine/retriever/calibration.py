"""From all evidence to one probability per term.

Each candidate gets a logit from its features. At most one term was said at a place, so candidates
that claim the same audio share one probability: with z the logits and o(i, j) the share of i's
audio that j claims, beyond what neighbours do,

    p(i) = exp z(i) / (1 + sum_j o(i, j) exp z(j)),        o(i, i) = 1

which is a softmax among sound-alikes and a logistic regression for a candidate without rivals.
Where one term contains another they are no rivals: "mocha" is said where "iced mocha" is. Nor are
spellings of one term, as "e-mail" and "Email".

All terms are sieved by a logit that is linear in what is known of each; the candidates that remain
get theirs from a small network, since evidence does not simply add up: what the speech LLM would
rather have written decides between homophones, and means little where its text fits badly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from a2p_engine.errors import ModelError
from a2p_engine.retriever.spelling import spelling
from a2p_engine.text import letters
from a2p_engine.types import EAGERNESS, Eagerness

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

# What is known of every term: cost of the spotter's match per symbol, its symbols, what the audio
# adds to the A2P head's logit.
HEARD = ("mean_cost", "length", "gain")
# What is worked out for candidates: CTC log-probability of the term against the best path there.
SOUND = ("likelihood", "mean_likelihood")
# Frames heard behind the term, up to half a second: what is still being said may become another.
BEHIND = ("behind",)
# What the text so far says; see ``transcript.Reading``.
READ = ("margin", "misfit", "doubt", "rarity", "explained")
SPELT = ("spelt",)
# Log-odds of the term against the text where both part, see ``transcript.Reading.fork``.
FORK = ("fork",)
# Whether the text covers the candidate's audio, and whether its odds are known: without, the
# features above are zero.
KNOWN = ("read", "weighed")
# How many words the term has, how rare its spelling is, and how many terms might have been said
# instead: the logarithm of the glossary's size.
TERM = ("words", "unusual", "crowd")

SIEVE = (*HEARD, *READ)
FINAL = (*HEARD, *SOUND, *BEHIND, *READ, *SPELT, *FORK, *KNOWN, *TERM)
# What a symbol costs at most is what it costs to leave it out, and little more: a long term must
# not look better than a short one because a sum is bounded.
_MOST_COST = 5.0
_LEAST_MEAN_LIKELIHOOD = -8.0
_LEAST_LIKELIHOOD = -60.0
# Longer terms than were calibrated are taken for ones of this length.
MOST_SYMBOLS = 48
MOST_WORDS = 8
# Two terms that are both said may share so much of a term's audio, as "a large latte" and "latte
# please" do; without it the one that is sure takes from the other.
NEIGHBOURS_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the features ``SIEVE``, the intercept last.

    Attributes:
        heard: where there is no text; weights of features of text are zero.
        read: where there is.
    """

    heard: tuple[float, ...]
    read: tuple[float, ...]

    def logits(self, features: FloatArray, covered: BoolArray) -> FloatArray:
        """[M, F] features to [M] logits; ``covered`` says where there is text."""
        rows = _with_ones(features)
        heard, read = (rows @ np.array(w, np.float32) for w in (self.heard, self.read))
        return np.asarray(np.where(covered, read, heard), np.float32)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A linear logit and a hidden layer beside it: w x + v tanh(W x), intercepts last in w and W.

    Attributes:
        linear: w, of the features ``FINAL``.
        hidden: W, a row for each unit.
        output: v, a weight for each unit.
    """

    linear: tuple[float, ...]
    hidden: tuple[tuple[float, ...], ...]
    output: tuple[float, ...]

    def logits(self, features: FloatArray) -> FloatArray:
        """[M, F] features to [M] logits."""
        rows = _with_ones(features)
        weights = np.array(self.hidden, np.float32).reshape(len(self.hidden), rows.shape[1])
        hidden = np.tanh(rows @ weights.T)
        logits = rows @ np.array(self.linear, np.float32) + hidden @ np.array(
            self.output, np.float32
        )
        return np.asarray(logits, np.float32)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fitted weights and the thresholds that go with them.

    Attributes:
        sieve: weights that pick the candidates out of all terms, of the features ``SIEVE``.
        final: gives candidates the logits of their probability, from the features ``FINAL``.
        thresholds: least probability at which a term is offered, by eagerness.
        terms_per_s: how often terms were said, in a second of speech; see ``TermRate``.
        source: the data it was fitted on.
    """

    sieve: Weights
    final: Network
    thresholds: dict[Eagerness, float]
    terms_per_s: float
    source: str = ""

    def threshold(self, chosen: float | Eagerness) -> float:
        """The least probability for an eagerness; a number stands for itself."""
        return self.thresholds[chosen] if isinstance(chosen, str) else chosen

    def save(self, path: Path) -> None:
        """Write as JSON, with the feature names so that a later set of features is noticed."""
        record = {"features": {"sieve": SIEVE, "final": FINAL}, **asdict(self)}
        path.write_text(json.dumps(record, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing, damaged or of other features.
        """
        try:
            record = json.loads(path.read_text())
            features = record.pop("features")
            known = {"sieve": SIEVE, "final": FINAL}
            if not isinstance(features, dict) or known != {
                k: tuple(v) for k, v in features.items()
            }:
                raise ModelError(f"{path}: fitted for other features than {', '.join(FINAL)}")
            sieve, final = _weights(record.pop("sieve")), _network(record.pop("final"))
            given = record.pop("thresholds")
            if set(given) != set(EAGERNESS):
                raise ModelError(f"{path}: thresholds must be given for {', '.join(EAGERNESS)}")
            thresholds = {name: float(given[name]) for name in EAGERNESS}
            rate = float(record.pop("terms_per_s"))
            if not 0 < rate < math.inf:
                raise ModelError(f"{path}: terms_per_s is {rate}; it must be above 0")
            return cls(sieve=sieve, final=final, thresholds=thresholds, terms_per_s=rate, **record)
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"cannot read calibration {path}: {error}") from error


def _weights(record: dict[str, list[float]]) -> Weights:
    return Weights(**{name: _row(values, SIEVE) for name, values in record.items()})


def _network(record: dict[str, Any]) -> Network:
    hidden = tuple(_row(values, FINAL) for values in record.pop("hidden"))
    linear, output = _row(record.pop("linear"), FINAL), tuple(map(float, record.pop("output")))
    if record or len(output) != len(hidden):
        raise ValueError("expected linear, hidden and output, the last as long as hidden")
    return Network(linear=linear, hidden=hidden, output=output)


def _row(values: list[float], names: tuple[str, ...]) -> tuple[float, ...]:
    if len(values) != len(names) + 1:
        raise ValueError(f"expected {len(names) + 1} weights")
    return tuple(map(float, values))


def _with_ones(features: FloatArray) -> FloatArray:
    """[M, F] to [M, F + 1], for the intercept."""
    return np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1)


def heard_features(cost: FloatArray, length: IntArray, gain: FloatArray) -> FloatArray:
    """[M, 3], one column for each name in ``HEARD``.

    Args:
        cost: [M] nats of the best match, inf before the first frame.
        length: [M] symbols.
        gain: [M] what the audio adds to the A2P head's logit.
    """
    columns = (np.minimum(cost / length, _MOST_COST), np.minimum(length, MOST_SYMBOLS), gain)
    return np.stack(columns, axis=1).astype(np.float32)


def sound_features(likelihood: FloatArray, length: IntArray) -> FloatArray:
    """[M, 2], one column for each name in ``SOUND``; ``likelihood`` [M] in nats, at most 0."""
    mean = np.maximum(likelihood / length, _LEAST_MEAN_LIKELIHOOD)
    return np.stack([np.maximum(likelihood, _LEAST_LIKELIHOOD), mean], axis=1).astype(np.float32)


def claimed(texts: Sequence[str], start: IntArray, end: IntArray) -> FloatArray:
    """How far each other candidate claims a candidate's audio: [M, M], row i of i's own.

    From 0 where they share ``NEIGHBOURS_SHARE`` of it to 1 where they share all.

    Args:
        texts: M terms.
        start: [M] first frame of each match.
        end: [M] one past its last frame.
    """
    shared = np.minimum(end[:, None], end) - np.maximum(start[:, None], start)
    size = np.maximum(end - start, 1)[:, None]
    beyond = (shared / size - NEIGHBOURS_SHARE) / (1 - NEIGHBOURS_SHARE)
    share = np.asarray(np.clip(beyond, 0, 1), np.float32)
    for outer, inner in _nested(texts):
        share[outer, inner] = share[inner, outer] = 0
    spelt = [letters(text) or f" {place}" for place, text in enumerate(texts)]
    number = np.unique(spelt, return_inverse=True)[1]
    share[number[:, None] == number] = 0
    np.fill_diagonal(share, 1.0)
    return share


def _nested(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of which the first contains the second as a run of whole words."""
    words = [spelling(text).split() for text in texts]
    places: dict[tuple[str, ...], list[int]] = {}
    for place, said in enumerate(words):
        places.setdefault(tuple(said), []).append(place)
    for outer, said in enumerate(words):
        for first, last in combinations(range(len(said) + 1), 2):
            if last - first < len(said):
                for inner in places.get(tuple(said[first:last]), ()):
                    yield outer, inner


def probabilities(logits: FloatArray, claims: FloatArray) -> FloatArray:
    """Of M candidates, sound-alikes sharing one; see the module's formula.

    Args:
        logits: [M], -inf for a term that is switched off.
        claims: [M, M], see ``claimed``.
    """
    if not len(logits):
        return np.zeros(0, np.float32)
    top = max(float(logits.max()), 0.0)
    odds = np.exp(logits.astype(np.float64) - top)
    return np.asarray(odds / (np.exp(-top) + claims @ odds), np.float32)
