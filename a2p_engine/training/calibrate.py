"""Fit the calibration: all evidence about a term to the probability that it was spoken.

Development recordings are searched for glossaries of several sizes, of words they contain and words
they do not. The fit maximises the likelihood of what was said among the best
candidates of each recording, which are the only ones whose probability is ever shown: as if nothing
had been written yet, with the transcript that the speech LLM makes without being told any term, and
with what it might have written instead. Each recording is heard to its end and, as a tick of the
live loop hears it, up to a random place, with the text of a tick before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from a2p_engine.audio import read_audio
from a2p_engine.encoders.base import Encoder
from a2p_engine.errors import TrainingError
from a2p_engine.manifest import Recording, read_manifest
from a2p_engine.retriever.calibration import (
    FINAL,
    HEARD,
    READ,
    SIEVE,
    Calibration,
    Network,
    Weights,
    claimed,
)
from a2p_engine.retriever.evidence import best_of_each
from a2p_engine.retriever.pronunciation import Pronouncer
from a2p_engine.retriever.retriever import CALIBRATION, Retriever
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.speech_llm import SpeechLLM, build_speech_llm
from a2p_engine.training.calibration_network import FIRST_INTERCEPT, Example, fit_network
from a2p_engine.training.texts import read_lines, words_of
from a2p_engine.transcribe import first_transcript
from a2p_engine.types import EAGERNESS, SAMPLE_RATE_HZ, Eagerness, Term

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

SIZES = (2_000, 10_000, 200_000)
# Wrong terms offered in a minute of speech, at most, with a glossary of the middle size.
BUDGET: dict[Eagerness, float] = {"cautious": 1.0, "balanced": 12.0, "eager": 24.0}
OFFERED = 10
TICK_SAMPLES = SAMPLE_RATE_HZ // 2
SAME_PLACE_FRAMES = 12  # 25 a second: what was heard of a term so far begins where all of it does
# Glossaries of one size, without a distractor in common, as far as the list goes: words that sound
# like common ones are few in each, and it is they that are offered wrongly.
DRAWS = 8
PHRASES = 0.5  # one for every other rare word that is said
# Mostly of two or three words; a quarter as long as the names of institutions.
SHORT, LONG = (2, 4), (4, 9)
LONG_PHRASES = 0.25
SEEDS = 4  # networks from other first weights differ by a point or two, means of several by less
FOLDS = 4  # thresholds are for recordings that were not fitted to
_LEAST_THRESHOLD = 0.01
# Where the first round begins: terms that match well for their length, in text that is in doubt.
_FIRST_HEARD = (-2.0, 0.35, 0.3)
_FIRST_READ = (0.4, 0.0, 0.4, 0.3, 0.0)
UNFITTED = Calibration(
    sieve=Weights(
        heard=(*_FIRST_HEARD, *(0.0,) * (len(READ) + 1)), read=(*_FIRST_HEARD, *_FIRST_READ, 0)
    ),
    final=Network(linear=(0.0,) * (len(FINAL) + 1), hidden=(), output=()),
    thresholds=dict.fromkeys(EAGERNESS, 0.5),
    terms_per_s=1.0,
)


def calibrate(
    *,
    weights: Path,
    manifests: Sequence[Path],
    rare_words: Path,
    speech_llm: str = "whisper-base",
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> Path:
    """Fit the calibration of trained heads and write it beside them.

    Args:
        weights: directory with both heads.
        manifests: development recordings with their texts, American voices.
        rare_words: word list; those in a text are its terms, the rest are drawn from.
        speech_llm: decides encoder, tokenizer and embeddings.
        sizes: glossaries searched for in each recording.
        seed: of the draw.

    Raises:
        InputError: a manifest or recording cannot be read.
        ModelError: weights are missing or damaged.
        TrainingError: no recording contains a word of the list.
    """
    recordings = [record for manifest in manifests for record in read_manifest(manifest)]
    rare = sorted(set(read_lines(rare_words)))
    encoder, decoder = build_speech_llm(speech_llm, "cpu", 1)
    retriever = Retriever.load(
        weights,
        embeddings=torch.from_numpy(decoder.token_embeddings()),
        tokenize=decoder.tokenize,
        pronouncer=Pronouncer(),
        calibration=UNFITTED,
    )
    path = weights / CALIBRATION
    fit_calibration(
        retriever,
        encoder,
        decoder,
        recordings=recordings,
        rare=rare,
        sizes=sizes,
        seed=seed,
    ).save(path)
    return path


def fit_calibration(
    retriever: Retriever,
    encoder: Encoder,
    decoder: SpeechLLM,
    *,
    recordings: Sequence[Recording],
    rare: Sequence[str],
    sizes: Sequence[int] = SIZES,
    phrases: float = PHRASES,
    seed: int = 0,
) -> Calibration:
    """Fit on development recordings.

    Args:
        retriever: trained heads; its own calibration is left behind.
        encoder: samples to frames.
        decoder: writes what is read as evidence.
        recordings: with their texts.
        rare: words; those in a text are its terms, the rest are drawn from.
        sizes: of the glossaries.
        phrases: how many phrases around a rare word that is said are terms as well.
        seed: of the draw.

    Raises:
        TrainingError: no recording contains a rare word.
    """
    rng = np.random.default_rng(seed)
    texts = [words_of(recording.text or "") for recording in recordings]
    spoken = sorted(set(rare).intersection(set().union(*texts)))
    if not spoken:
        raise TrainingError("no recording contains a word of the list")
    spoken += sorted(
        {phrase for text in texts for phrase in _phrases(text, set(rare), phrases, rng)}
    )
    others = rng.permutation(sorted(set(rare).difference(spoken))).tolist()
    heard = [_listened(encoder, decoder, recording, rng) for recording in recordings]
    fit = UNFITTED
    # The candidates of the second round are picked with the sieve fitted in the first, for which
    # the smallest glossary will do.
    for chosen, draws in (([min(sizes)], 1), (sizes, DRAWS)):
        drawn = _glossaries(spoken, others, chosen, draws)
        examples = list(_examples(retriever, fit, drawn, heard, texts))
        fit = replace(fit, sieve=_sieve(examples))
    fit = replace(fit, final=fit_network(examples, SEEDS))
    listed = ", ".join(map(str, sizes))
    source = f"{len(recordings)} development recordings, {listed} terms, seed {seed}"
    thresholds = _thresholds(examples, _cross_fitted(examples), sorted(sizes))
    rate = _terms_per_s(examples)
    return replace(fit, thresholds=thresholds, terms_per_s=rate, source=source)


@dataclass(frozen=True)
class _Glossaries:
    """Several glossaries of one list of words.

    Attributes:
        words: those that are said, and others.
        spoken: how many of them are said, which all glossaries contain.
        parts: size of each glossary, first and one past the last of the others in it.
    """

    words: Sequence[str]
    spoken: int
    parts: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class _Listened:
    """A recording heard to its end, and up to some place before it.

    Attributes:
        frames: of all of it.
        transcript: of all of it.
        frames_so_far: up to the place.
        transcript_before: up to a tick before the place.
        seconds: of all of it.
    """

    frames: FloatArray
    transcript: Transcript
    frames_so_far: FloatArray
    transcript_before: Transcript
    seconds: float


def _listened(
    encoder: Encoder, decoder: SpeechLLM, recording: Recording, rng: np.random.Generator
) -> _Listened:
    samples = read_audio(recording.audio)[: decoder.max_samples]
    end = int(rng.integers(min(2 * TICK_SAMPLES, len(samples)), len(samples) + 1))
    before = samples[: max(end - TICK_SAMPLES, TICK_SAMPLES)]
    whole, so_far, earlier = (encoder.encode(part) for part in (samples, samples[:end], before))
    return _Listened(
        frames=whole.frames,
        transcript=first_transcript(decoder, samples, whole),
        frames_so_far=so_far.frames,
        transcript_before=first_transcript(decoder, before, earlier),
        seconds=len(samples) / SAMPLE_RATE_HZ,
    )


def _glossaries(
    spoken: Sequence[str], others: Sequence[str], sizes: Sequence[int], draws: int
) -> _Glossaries:
    """All that is said and, for each size, one stretch of the other words after the other."""
    parts = []
    for size in sizes:
        more = max(size - len(spoken), 0)
        for first in range(0, max(len(others) - more, 0) + 1, more or len(others) + 1)[:draws]:
            parts.append((size, first, first + more))
    return _Glossaries([*spoken, *others[: max(end for *_, end in parts)]], len(spoken), parts)


def _examples(
    retriever: Retriever,
    fit: Calibration,
    drawn: _Glossaries,
    heard: Sequence[_Listened],
    texts: Sequence[Sequence[str]],
) -> Iterator[Example]:
    """Candidates of each recording in each glossary."""
    retriever.calibration = fit
    words = drawn.words
    index = retriever.index([Term(text=word) for word in words])
    recordings = zip(tqdm(heard, desc="recordings", disable=None), texts, strict=True)
    for number, (listened, text) in enumerate(recordings):
        place = np.zeros(index.numbers, np.int32)  # first frame of each term's match in the whole
        for frames, transcript, seconds in (
            (listened.frames, listened.transcript, listened.seconds),
            (listened.frames_so_far, listened.transcript_before, 0.0),
        ):
            state = retriever.start()
            everything = retriever.hear(index, state, frames)
            reading = retriever.read(state, transcript) if transcript.words else None
            if seconds:
                best = best_of_each(everything.term, -everything.match.cost)
                place[everything.term[best]] = everything.match.start[best]
            for size, first, end in drawn.parts:
                other = everything.term - drawn.spoken
                inside = (other < 0) | ((first <= other) & (other < end))
                part = everything.part(np.flatnonzero(inside))
                found = retriever.candidates(part, index, reading)
                terms = [words[term] for term in found.term]
                there = abs(found.match.start - place[found.term]) <= SAME_PLACE_FRAMES
                said = np.array([_contains(text, term) for term in terms], np.bool_)
                yield Example(
                    recording=number,
                    size=size,
                    features=retriever.describe(found, index, state, reading, size),
                    claimed=claimed(terms, found.match.start, found.match.end + 1),
                    spoken=said if seconds else said & there,
                    seconds=seconds,
                )


def _phrases(
    text: Sequence[str], rare: set[str], share: float, rng: np.random.Generator
) -> list[str]:
    """Words in a row, one of them rare, from a share of the places there are."""
    found = []
    for place in np.flatnonzero([word in rare for word in text]).tolist():
        length = int(rng.integers(*(LONG if rng.random() < LONG_PHRASES else SHORT)))
        first = max(place - int(rng.integers(length)), 0)
        run = text[first : first + length]
        if len(run) > 1 and rng.random() < share:
            found.append(" ".join(run))
    return found


def _contains(text: Sequence[str], term: str) -> bool:
    return f" {term} " in f" {' '.join(text)} "


def _sieve(examples: Sequence[Example]) -> Weights:
    heard = _regress(examples, HEARD)
    return Weights(
        heard=(*heard[:-1], *(0.0,) * len(READ), heard[-1]), read=_regress(examples, SIEVE)
    )


def _regress(examples: Sequence[Example], names: Sequence[str]) -> tuple[float, ...]:
    """Logistic regression on some features, candidate by candidate; intercept last."""
    which = [FINAL.index(name) for name in names]
    rows = torch.from_numpy(np.concatenate([e.features[:, which] for e in examples])).double()
    labels = torch.from_numpy(np.concatenate([e.spoken for e in examples])).double()
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    standard = (rows - mean) / scale
    weights = torch.zeros(len(which) + 1, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        weights[-1] = FIRST_INTERCEPT
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = standard @ weights[:-1] + weights[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="sum"
        )
        value = value / len(examples) + 1e-3 * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach()
    raw = found[:-1] / scale
    bias = found[-1] - raw @ mean
    return tuple(round(float(weight), 5) for weight in (*raw, bias))


def _cross_fitted(examples: Sequence[Example]) -> list[Network]:
    """For each example a network that was fitted without its recording."""
    networks = [
        fit_network([each for each in examples if each.recording % FOLDS != fold])
        for fold in range(FOLDS)
    ]
    return [networks[example.recording % FOLDS] for example in examples]


def _terms_per_s(examples: Sequence[Example]) -> float:
    """How often terms are said in a second; phrases are drawn around some of them, and add none."""
    heard = [example for example in examples if example.seconds]
    words = FINAL.index("words")
    said = sum(int((example.spoken & (example.features[:, words] == 1)).sum()) for example in heard)
    return round(said / sum(example.seconds for example in heard), 3)


def _thresholds(
    examples: Sequence[Example], networks: Sequence[Network], sizes: Sequence[int]
) -> dict[Eagerness, float]:
    """The least thresholds that keep within ``BUDGET`` on the glossary of the middle size.

    Args:
        examples: candidates and which of them were said.
        networks: what gives each of them its probabilities.
        sizes: of the glossaries, ascending.
    """
    middle = sizes[len(sizes) // 2]
    wrong: list[float] = []
    minutes = 0.0
    for example, network in zip(examples, networks, strict=True):
        if example.size == middle and example.seconds:
            minutes += example.seconds / 60
            logits = network.logits(example.features).astype(np.float64)
            odds = np.exp(np.minimum(logits, 60))
            probability = odds / (1 + example.claimed @ odds)
            best = np.argsort(-probability)[:OFFERED]
            wrong += probability[best][~example.spoken[best]].tolist()
    wrong.sort(reverse=True)
    found: dict[Eagerness, float] = {}
    for name, budget in BUDGET.items():
        allowed = int(budget * minutes)
        beyond = wrong[allowed] if allowed < len(wrong) else 0.0
        least = math.floor(1000 * beyond + 1) / 1000  # that one is no longer offered
        found[name] = min(max(least, _LEAST_THRESHOLD), 1.0)
    return found
