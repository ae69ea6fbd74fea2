"""The systems that are compared: what each of them puts into the speech LLM's prompt."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from a2p_engine.encoders import Encoder
from a2p_engine.encoders.base import Encoded
from a2p_engine.engine import Engine
from a2p_engine.evaluation.glossary_plan import SizedGlossary, without_spoken
from a2p_engine.evaluation.matching import Matcher, by_sound, by_spelling
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.windows import windows
from a2p_engine.guard import Guard
from a2p_engine.manifest import Recording
from a2p_engine.selection import Candidate
from a2p_engine.speech_llm import DecodeRequest, Hypothesis
from a2p_engine.types import Samples, SessionOptions, StepRequest, StepResult, Term

NONE, ORACLE = "none", "oracle"  # the same whatever the size of the glossary
UNGUARDED = "unguarded"
BASELINES = ("first_terms", "wrong_prompt", "a2p_head", "fuzzy", "phonetic", UNGUARDED)
OURS, WRONG_LIST = "ours", "wrong_list"
SYSTEMS = (NONE, ORACLE, *BASELINES, WRONG_LIST, OURS)

PICKED = SessionOptions().top_k
# More than ever fit; the prompt is cut where the speech LLM has no more room.
_FIRST_TERMS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one system wrote of one recording.

    Attributes:
        id: of the recording.
        system: one of ``SYSTEMS``.
        size: terms of the glossary, 0 where it has none.
        text: what was written.
        prompted: terms that were in the prompt.
        seconds: time to choose the terms and to decode, the encoder not counted.
    """

    id: str
    system: str
    size: int
    text: str
    prompted: tuple[str, ...]
    seconds: float


@dataclass(kw_only=True)
class Passage:
    """A piece of a recording that is decoded at once; the same prompt is decoded once only."""

    samples: Samples
    encoded: Encoded
    models: Models
    _written: dict[tuple[str, ...], tuple[Hypothesis, float]] = field(default_factory=dict)

    def write(self, terms: Sequence[str]) -> tuple[Hypothesis, float]:
        """Text with these terms in the prompt, and the seconds it took.

        A prompt that is recited is dropped, as in the engine.
        """
        key = tuple(terms)
        if key not in self._written:
            began = time.perf_counter()
            hypothesis = Guard().write([_offer(term) for term in terms], self._decode)
            self._written[key] = hypothesis, time.perf_counter() - began
        return self._written[key]

    def _decode(self, offers: Sequence[Candidate], *, beginning: str = "") -> Hypothesis:
        request = DecodeRequest(
            samples=self.samples,
            encoded=self.encoded,
            terms=[offer.term.text for offer in offers],
            committed=beginning,
            language="en",
            task="transcribe",
        )
        return self.models.speech_llm.decode(request)


def passages(samples: Samples, models: Models) -> list[Passage]:
    """A recording in encoded pieces: one, unless it is longer than 28 s."""
    return [
        Passage(samples=piece, encoded=models.encoder.encode(piece), models=models)
        for piece in windows(samples)
    ]


class KnownPassages:
    """An encoder that need not encode the passages at hand again."""

    def __init__(self, encoder: Encoder) -> None:
        """Stand in for an encoder."""
        self.name, self.width, self.hop_samples = encoder.name, encoder.width, encoder.hop_samples
        self._encoder = encoder
        self.passages: Sequence[Passage] = ()

    def encode(self, samples: Samples) -> Encoded:
        """See ``Encoder.encode``."""
        for passage in self.passages:
            if np.array_equal(passage.samples, samples):
                return passage.encoded
        return self._encoder.encode(samples)


class _Session:
    """A session of the engine that hears all recordings, one after the other."""

    def __init__(self, engine: Engine, options: SessionOptions, terms: Sequence[Term]) -> None:
        self._engine = engine
        self._handle, _ = engine.open(options, terms)
        self._segments = itertools.count()
        self._end_sample = 0

    def hear(self, passages: Sequence[Passage], own: Sequence[Term] = ()) -> list[StepResult]:
        """Each passage as a segment; ``own`` are terms of this recording alone."""
        if own:
            self._engine.edit_glossary(self._handle, add=own)
        results = [self._step(passage.samples) for passage in passages]
        if own:
            self._engine.edit_glossary(self._handle, remove=[term.text for term in own])
        return results

    def _step(self, samples: Samples) -> StepResult:
        result = self._engine.step(
            StepRequest(
                session=self._handle,
                segment_id=next(self._segments),
                start_sample=self._end_sample,
                samples=samples,
                final=True,
            )
        )
        self._end_sample = result.end_sample
        return result


class Field:
    """All systems with one glossary.

    Ours hears the recordings as one session does live, in the order in which they are run.
    """

    def __init__(
        self,
        glossary: SizedGlossary,
        models: Models,
        recordings: Sequence[Recording],
        options: SessionOptions,
        seed: int = 0,
    ) -> None:
        """Nothing is made ready before a system needs it.

        Args:
            glossary: the glossary.
            models: what all systems share.
            recordings: all that will be heard.
            options: of our system.
            seed: of the order of terms.
        """
        self._glossary = glossary
        self._models = models
        self._recordings = recordings
        self._options = options
        self._seed = seed
        self._latest: tuple[str, list[StepResult]] | None = None

    def run(self, system: str, number: int, heard: Sequence[Passage]) -> Outcome:
        """Let one system write one recording.

        Args:
            system: one of ``SYSTEMS``.
            number: of the recording.
            heard: the recording.
        """
        recording = self._recordings[number]
        if system in (OURS, WRONG_LIST):
            return self._engine(system, recording, heard)
        texts, prompted, seconds = [], dict[str, None](), 0.0
        for place, passage in enumerate(heard):
            picked, choosing = self._choose(system, number, heard, place)
            hypothesis, decoding = passage.write(picked)
            seconds += choosing + decoding
            prompted.update(dict.fromkeys(hypothesis.prompt.terms))
            texts.append(_text(hypothesis))
        size = 0 if system in (NONE, ORACLE) else self._glossary.size
        return Outcome(
            id=recording.id,
            system=system,
            size=size,
            text=" ".join(texts),
            prompted=tuple(prompted),
            seconds=seconds,
        )

    def _choose(
        self, system: str, number: int, heard: Sequence[Passage], place: int
    ) -> tuple[list[str], float]:
        """What a system would tell of a passage, and the seconds that took."""
        if system == UNGUARDED:
            result = self._ours(self._recordings[number], heard)[place]
            return [hit.term for hit in result.terms], result.timings_ms["retrieve"] / 1000
        began = time.perf_counter()
        picked = self._pick(system, number, heard[place])
        return picked, time.perf_counter() - began

    def _pick(self, system: str, number: int, passage: Passage) -> list[str]:
        recording = self._recordings[number]
        if system == ORACLE:
            return list(dict.fromkeys(recording.terms))
        if system == "first_terms":
            return self._drawn(recording, number)
        if system == "wrong_prompt":
            order = np.random.default_rng([self._seed, number]).permutation(len(self._wrong))
            return [self._wrong[place].text for place in order[:PICKED]]
        if system == "a2p_head":
            return self._best_of_head(recording, passage)
        if system in ("fuzzy", "phonetic"):
            return self._alike(system, recording, _text(passage.write([])[0]))
        return []

    def _drawn(self, recording: Recording, number: int) -> list[str]:
        """The first terms of the list in a random order, of each list its own."""
        listing = self._glossary.listing
        own = listing.own_terms(recording)
        rng = np.random.default_rng([self._seed, number] if own else self._seed)
        total = len(listing.terms) + len(own)
        drawn = rng.permutation(total)[:_FIRST_TERMS] - len(own)
        return [(listing.terms[at] if at >= 0 else own[at]).text for at in drawn.tolist()]

    def _best_of_head(self, recording: Recording, passage: Passage) -> list[str]:
        retriever = self._models.retriever
        index = self._glossary.index_for(recording, retriever)
        heard = retriever.evidence(index, passage.encoded.frames)
        order = np.argsort(-heard.gain, kind="stable")
        numbers = dict.fromkeys(heard.term[order].tolist())
        return [index[number].text for number in list(numbers)[:PICKED]]

    def _alike(self, system: str, recording: Recording, text: str) -> list[str]:
        shared = self._spellings if system == "fuzzy" else self._sounds
        own = [term.text for term in self._glossary.listing.own_terms(recording)]
        found = shared.ranked(text, PICKED)
        if own:
            found += Matcher(own, shared.forms).ranked(text, PICKED)
        found.sort(key=lambda pair: -pair[0])
        return [term for _, term in found[:PICKED]]

    def _engine(self, system: str, recording: Recording, heard: Sequence[Passage]) -> Outcome:
        """Through the engine, as it runs live: retriever, threshold, prompt and guard."""
        if system == OURS:
            results = self._ours(recording, heard)
        else:
            self._encoder.passages = heard
            results = self._wrong_session.hear(heard)
        texts, prompted, seconds = [], dict[str, None](), 0.0
        for result in results:
            texts.append(result.text)
            prompted.update(dict.fromkeys(hit.term for hit in result.terms))
            seconds += sum(ms for name, ms in result.timings_ms.items() if name != "encode") / 1000
        return Outcome(
            id=recording.id,
            system=system,
            size=self._glossary.size,
            text=" ".join(texts),
            prompted=tuple(prompted),
            seconds=seconds,
        )

    def _ours(self, recording: Recording, heard: Sequence[Passage]) -> list[StepResult]:
        """What ours makes of a recording; two systems ask for it in turn."""
        if self._latest is None or self._latest[0] != recording.id:
            self._encoder.passages = heard
            own = self._glossary.listing.own_terms(recording)
            self._latest = recording.id, self._session.hear(heard, own)
        return self._latest[1]

    @cached_property
    def _session(self) -> _Session:
        return _Session(self._live, self._options, self._glossary.listing.terms)

    @cached_property
    def _wrong_session(self) -> _Session:
        return _Session(self._live, self._options, self._wrong)

    @cached_property
    def _wrong(self) -> tuple[Term, ...]:
        """The glossary without anything that is said in any of the recordings."""
        return without_spoken(self._glossary.listing, self._recordings).terms

    @cached_property
    def _spellings(self) -> Matcher:
        return Matcher([term.text for term in self._glossary.listing.terms], by_spelling)

    @cached_property
    def _sounds(self) -> Matcher:
        terms = [term.text for term in self._glossary.listing.terms]
        return Matcher(terms, by_sound(self._models.pronouncer))

    @cached_property
    def _encoder(self) -> KnownPassages:
        return KnownPassages(self._models.encoder)

    @cached_property
    def _live(self) -> Engine:
        return Engine(
            encoder=self._encoder,
            speech_llm=self._models.speech_llm,
            new_retriever=lambda: self._models.retriever,
        )


def _offer(term: str) -> Candidate:
    return Candidate(
        term=Term(text=term), number=0, probability=1.0, cost=float("inf"), start=0, end=0
    )


def _text(hypothesis: Hypothesis) -> str:
    return "".join(word.text for word in hypothesis.words).strip()
