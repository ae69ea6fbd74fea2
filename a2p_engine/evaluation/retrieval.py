"""Search recordings for every term of glossaries of several sizes, in quiet and in noise."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from a2p_engine.audio import read_audio
from a2p_engine.evaluation import noise
from a2p_engine.evaluation.glossary_plan import SizedGlossary
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.windows import windows
from a2p_engine.manifest import Recording
from a2p_engine.retriever.glossary_index import GlossaryIndex
from a2p_engine.retriever.retriever import Retriever
from a2p_engine.retriever.transcript import Transcript
from a2p_engine.selection import Offering, candidates
from a2p_engine.text import mentions, plain
from a2p_engine.training.texts import words_of
from a2p_engine.transcribe import first_transcript
from a2p_engine.types import SAMPLE_RATE_HZ, Samples, SessionOptions

FloatArray = npt.NDArray[np.float32]

# Frames [T, D] of all that was heard, and what was written of it or of its beginning.
Tick = tuple[FloatArray, Transcript | None]

TOP_K = SessionOptions().top_k
ANY = "any"  # the lowest threshold there is
ALL, UNREAD, A2P, SPOTTER = "calibrated", "without_text", "a2p_head", "spotter"
HEAD_FIRST = "a2p_head_first"  # the spotter hears only what the A2P head lets through
# Alone, the spotter ranks by its cost, long terms favoured by so many nats a phoneme.
SPOTTER_BONUS = 0.6
_ACRONYM = re.compile(r"[A-Z][A-Z0-9.&-]{1,7}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """Speech as it is (None), or with noise so many dB below it."""

    snr_db: float | None = None

    @property
    def name(self) -> str:
        """As on the command line."""
        return "clean" if self.snr_db is None else f"{self.snr_db:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """A term of the glossary that is said in the recording.

    Attributes:
        term: as the glossary writes it.
        ranks: by stage; 1 is best, terms of equal score all take the worst of their places.
        kinds: of which it is one, see ``kinds_of``.
        rival: by how many phonemes it differs from the most similar term that ranks no lower and
            was not said; 0 of a homophone, None where no such term was found.
    """

    term: str
    ranks: dict[str, int]
    kinds: tuple[str, ...]
    rival: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A term that would be offered at a threshold low enough.

    Attributes:
        term: as the glossary writes it.
        probability: the largest at which it was among the ten best.
        at: names of the thresholds at which it was offered.
        spoken: whether the recording's terms or its text contain it.
        listed: whether it is one of the recording's terms.
    """

    term: str
    probability: float
    at: tuple[str, ...]
    spoken: bool
    listed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One recording, in one condition, searched for one glossary.

    Attributes:
        id: of the recording.
        condition: name of the condition.
        size: terms of the glossary.
        audio_s: length of the recording.
        step_s: seconds of each time that all terms were scored, the encoder not counted.
        missing: terms of the recording that the glossary lacks.
        spoken: those it has.
        offers: what could be offered, at most ten terms at a time.
    """

    id: str
    condition: str
    size: int
    audio_s: float
    step_s: tuple[float, ...]
    missing: int
    spoken: tuple[Spoken, ...]
    offers: tuple[Offer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """How recordings are searched.

    Attributes:
        conditions: each recording is searched in each of them.
        noise: a kind of noise or an audio file, see ``noise.track``.
        stages: whether to rank by each stage alone as well.
        tick_s: hear recordings in ticks of so many seconds, as the live loop does; what was offered
            after any of them counts. None hears them at once.
        seed: of the noise.
    """

    conditions: tuple[Condition, ...] = (Condition(),)
    noise: str = "kitchen"
    stages: bool = False
    tick_s: float | None = None
    seed: int = 0


def search(
    recordings: Sequence[Recording],
    glossaries: Sequence[SizedGlossary],
    models: Models,
    options: SearchOptions,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[Trial]:
    """Search; each recording is read once, and encoded once in each condition.

    Args:
        recordings: what is searched.
        glossaries: what for.
        models: what searches.
        options: how.
        progress: called after each recording.

    Raises:
        InputError: the noise is unknown.
        AudioError: a recording cannot be read.
    """
    noisy = any(condition.snr_db is not None for condition in options.conditions)
    track = noise.track(options.noise, options.seed) if noisy else None
    for number, recording in enumerate(recordings):
        speech = read_audio(recording.audio)
        for condition in options.conditions:
            heard = speech
            if condition.snr_db is not None and track is not None:
                heard = noise.mix(speech, track, condition.snr_db, number)
            passages = [_ticks(piece, models, options.tick_s) for piece in windows(heard)]
            for glossary in glossaries:
                index = glossary.index_for(recording, models.retriever)
                found = _Findings(index, models.retriever, stages=options.stages)
                for passage in passages:
                    found.hear(passage)
                yield _trial(recording, condition, glossary, found, len(speech), models.trained)
        progress()


def thresholds_of(retriever: Retriever) -> dict[str, float]:
    """Least probability of an offered term, by name."""
    return {str(name): level for name, level in retriever.calibration.thresholds.items()}


def kinds_of(term: str, trained: frozenset[str]) -> tuple[str, ...]:
    """Kinds of terms that are reported apart; a term is of several.

    ``unseen`` terms have a word that was never spoken in the retriever's training.
    """
    words = term.split()
    kinds = ["single_word" if len(words) == 1 else "multi_word"]
    if any(_ACRONYM.fullmatch(word) for word in words):
        kinds.append("acronym")
    kinds.append("seen" if trained.issuperset(words_of(term)) else "unseen")
    return tuple(kinds)


@dataclass
class _Findings:
    """What the stages say of one recording, over its windows and ticks."""

    index: GlossaryIndex
    retriever: Retriever
    stages: bool
    step_s: list[float] = field(default_factory=list)
    probability: dict[int, float] = field(default_factory=dict)
    offered: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    best: dict[str, FloatArray] = field(default_factory=dict)

    def hear(self, ticks: Sequence[Tick]) -> None:
        """One window, tick by tick."""
        state = self.retriever.start()
        levels = {**thresholds_of(self.retriever), ANY: 0.0}
        offerings = {name: Offering() for name in levels}
        for tick, (frames, text) in enumerate(ticks, 1):
            began = time.perf_counter()
            evidence = self.retriever.step(self.index, state, frames, text)
            self.step_s.append(time.perf_counter() - began)
            found = candidates(evidence, self.index)
            for name, offering in offerings.items():
                offered = offering.choose(
                    found, top_k=TOP_K, threshold=levels[name], final=tick == len(ticks)
                )
                for offer in offered:
                    before = self.probability.get(offer.number, 0.0)
                    self.probability[offer.number] = max(before, offer.probability)
                    self.offered[offer.number].add(name)
        self._raise(ALL, evidence.term, evidence.probability)
        if self.stages:
            unread = self.retriever.step(self.index, self.retriever.start(), ticks[-1][0])
            self._raise(UNREAD, unread.term, unread.probability)
            first = self.retriever.step(
                self.index, self.retriever.start(), *ticks[-1], follow=False
            )
            self._raise(HEAD_FIRST, first.term, first.probability)
            heard = self.retriever.evidence(self.index, ticks[-1][0])
            self._raise(A2P, heard.term, heard.gain)
            score = SPOTTER_BONUS * heard.length - heard.match.cost
            self._raise(SPOTTER, heard.term, score.astype(np.float32))

    def _raise(self, stage: str, term: npt.NDArray[np.int32], score: FloatArray) -> None:
        """Keep the best score of each term; a term may have several pronunciations."""
        best = self.best.setdefault(stage, np.full(self.index.numbers, -np.inf, np.float32))
        np.maximum.at(best, term, score)

    def ranks(self, number: int) -> dict[str, int]:
        """Of a term, by stage."""
        return {stage: int((best >= best[number]).sum()) for stage, best in self.best.items()}

    def rival(self, number: int, said: set[int]) -> int | None:
        """Phonemes between a term and the most similar one that ranks no lower and was not said."""
        best = self.best[ALL]
        above = np.flatnonzero(np.isfinite(best) & (best >= best[number])).tolist()
        mine = self.index.pronunciations(number).each()
        return min(
            (
                Levenshtein.distance(one, other)
                for rival in set(above) - said - {number}
                for other in self.index.pronunciations(rival).each()
                for one in mine
            ),
            default=None,
        )


def _trial(
    recording: Recording,
    condition: Condition,
    glossary: SizedGlossary,
    found: _Findings,
    samples: int,
    trained: frozenset[str],
) -> Trial:
    listed = {plain(term) for term in recording.terms}
    places = {name: glossary.place(name, found.index) for name in sorted(listed)}
    said = {place for place in places.values() if place is not None}
    spoken = []
    for place in places.values():
        if place is not None:
            text = found.index[place].text
            spoken.append(
                Spoken(
                    term=text,
                    ranks=found.ranks(place),
                    kinds=kinds_of(text, trained),
                    rival=found.rival(place, said),
                )
            )
    everything = f"{recording.text or ''} | {' | '.join(recording.terms)}"
    return Trial(
        id=recording.id,
        condition=condition.name,
        size=glossary.size,
        audio_s=samples / SAMPLE_RATE_HZ,
        step_s=tuple(found.step_s),
        missing=sum(place is None for place in places.values()),
        spoken=tuple(spoken),
        offers=tuple(
            Offer(
                term=text,
                probability=probability,
                at=tuple(sorted(found.offered[number])),
                spoken=mentions(everything, text),
                listed=plain(text) in listed,
            )
            for number, probability in found.probability.items()
            for text in (found.index[number].text,)
        ),
    )


def _ticks(samples: Samples, models: Models, tick_s: float | None) -> list[Tick]:
    """A window after each tick, or the whole of it at once.

    As in the engine, a tick knows what was written of the tick before, and what is heard at once is
    written down, untold, before it is searched.
    """
    tick = round(tick_s * SAMPLE_RATE_HZ) if tick_s else len(samples)
    ends = [*range(tick, len(samples), max(tick, 1)), len(samples)]
    encoded = [models.encoder.encode(samples[:end]) for end in ends]
    read = len(ends) - 1 or 1
    texts: list[Transcript | None] = [
        first_transcript(models.speech_llm, samples[:end], each)
        for end, each in zip(ends[:read], encoded, strict=False)
    ]
    if len(ends) > 1:
        texts = [None, *texts]
    return [(each.frames, text) for each, text in zip(encoded, texts, strict=True)]
