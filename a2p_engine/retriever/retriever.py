"""Both stages behind one face: frames of an open segment in, probable terms out, tick by tick.

Frames older than ``LOOKAHEAD_FRAMES`` are settled: both stages take them into their states and
never look at them again. The newest ones may still change when more audio gives them context, so
they are a provisional tail, scored on copies and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.ops import term_score
from a2p_engine.retriever import index_file
from a2p_engine.retriever.calibration import Calibration, sigmoid
from a2p_engine.retriever.checkpoints import load_head
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.index_file import Vocabulary
from a2p_engine.retriever.phoneme_ctc import PhonemeCTC, to_symbols
from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms
from a2p_engine.retriever.spotter import (
    VOWELS,
    MatchCosts,
    Matches,
    PhoneIndex,
    SpotterState,
    emission_costs,
    substitution_costs,
)
from a2p_engine.retriever.term_scorer import Chunk, Hearing, TermScorer
from a2p_engine.retriever.term_table import TermTable
from a2p_engine.retriever.token_table import TokenTable
from a2p_engine.types import Term

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

Tokenize = Callable[[Sequence[str]], list[list[int]]]
Progress = Callable[[int], None]
CALIBRATION = "calibration.json"

POOL = 2  # 50 Hz Whisper frames to the 25 Hz both stages work at
# A second of right context settles Whisper's features; in encoder frames, a multiple of POOL.
LOOKAHEAD_FRAMES = 50
# Up to this many pronunciations are followed frame by frame. Beyond, the A2P head picks that many
# terms each tick and the spotter hears the segment again for them alone.
SPOTTER_LIMIT = 100_000
SHORTLIST = 4_000
PRONOUNCED_AT_ONCE = 1_000


@dataclass
class RetrieverState:
    """What has been heard of the open segment, whatever glossary it is scored with.

    Attributes:
        hearing: of the A2P head.
        spotters: of each section of the glossary that is followed frame by frame.
        emissions: [T, S] costs of the settled frames, chunk by chunk, for sections added later.
        tail: [T', S] costs of the provisional frames behind them.
        settled: encoder frames.
        gain: [1, V] and scores [1, N] of the last tick, kept to be written to again.
        scores: see ``gain``.
    """

    hearing: Hearing
    spotters: dict[Section, SpotterState] = field(default_factory=dict)
    emissions: list[FloatArray] = field(default_factory=list)
    tail: FloatArray | None = None
    settled: int = 0
    gain: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True)
class Heard:
    """What both stages say of M pronunciations.

    Attributes:
        term: [M] number of the term each stands for, ascending.
        length: [M] phonemes.
        match: the spotter's.
        gain: [M] of the A2P head, of the term.
    """

    term: IntArray
    length: IntArray
    match: Matches
    gain: FloatArray


@dataclass(frozen=True)
class Evidence:
    """Scores of C candidate terms after a tick.

    Attributes:
        term: [C] numbers in the glossary, ascending.
        probability: [C] calibrated.
        cost: [C] nats of the best match, inf where there is none.
        start: [C] first encoder frame of the match.
        end: [C] one past its last encoder frame.
    """

    term: IntArray
    probability: FloatArray
    cost: FloatArray
    start: IntArray
    end: IntArray


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a pronunciation fits a stretch of audio.

    Attributes:
        cost: nats of its best match there.
        length: its phonemes.
        start: first encoder frame of the match.
        end: one past its last encoder frame.
    """

    cost: float
    length: int
    start: int
    end: int

    @property
    def mean_cost(self) -> float:
        """Nats per phoneme."""
        return self.cost / self.length


class Retriever:
    """A trained A2P head, spotter and calibration for one encoder and one language."""

    def __init__(
        self,
        *,
        head: FoldedHead,
        ctc: PhonemeCTC,
        calibration: Calibration,
        costs: MatchCosts,
        embeddings: Tensor,
        tokenize: Tokenize,
        pronouncer: Pronouncer,
        device: torch.device | str = "cpu",
    ) -> None:
        """Put the parts together; ``load`` reads them from a directory.

        Args:
            head: folded A2P head.
            ctc: phoneme CTC head.
            calibration: evidence to probability.
            costs: of the spotter.
            embeddings: [V, D] token embedding table of the speech LLM.
            tokenize: texts to token ids in the speech LLM's vocabulary.
            pronouncer: texts to phoneme strings.
            device: where the A2P head scores; the spotter stays on the CPU.
        """
        self._device = torch.device(device)
        head = head.to(self._device)
        self.table = TokenTable(head, embeddings, device=self._device)
        self._scorer = TermScorer(head, self.table)
        self._ctc = ctc
        self.calibration = calibration
        self._costs = costs
        self._substitution = substitution_costs(ctc.symbols, costs)
        self._tokenize = tokenize
        self._pronouncer = pronouncer
        self._symbol_ids = {symbol: number for number, symbol in enumerate(ctc.symbols)}
        self._vowels = {self._symbol_ids[vowel] for vowel in VOWELS}

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        embeddings: Tensor,
        tokenize: Tokenize,
        pronouncer: Pronouncer,
        calibration: Calibration | None = None,
        device: torch.device | str = "cpu",
    ) -> Retriever:
        """Read a2p_head.safetensors, phoneme_ctc.safetensors and calibration.json.

        Args:
            directory: where the files are.
            embeddings: [V, D] token embedding table of the speech LLM.
            tokenize: texts to token ids in the speech LLM's vocabulary.
            pronouncer: texts to phoneme strings.
            calibration: instead of the file's.
            device: where the A2P head scores.

        Raises:
            ModelError: a file is missing, damaged or of another shape.
        """
        return cls(
            head=fold(load_head(directory / "a2p_head.safetensors")),
            ctc=PhonemeCTC.load(directory / "phoneme_ctc.safetensors"),
            calibration=calibration or Calibration.load(directory / CALIBRATION),
            costs=MatchCosts(),
            embeddings=embeddings,
            tokenize=tokenize,
            pronouncer=pronouncer,
            device=device,
        )

    def index(self, terms: Sequence[Term]) -> GlossaryIndex:
        """Make a glossary ready for scoring."""
        return GlossaryIndex.of(self._section(terms))

    def vocabulary(self, speech_llm: str) -> Vocabulary:
        """What an index file must be made for, to be used here."""
        return Vocabulary(
            speech_llm=speech_llm, tokens=self.table.vocabulary, phonemes=self._ctc.symbols
        )

    def save_index(
        self, terms: Sequence[Term], path: Path, speech_llm: str, progress: Progress | None = None
    ) -> None:
        """Index a glossary into a file; what was done before an interruption is not done again.

        Args:
            terms: the glossary.
            path: the file.
            speech_llm: whose tokens are used.
            progress: called with the number of terms that have been pronounced.

        Raises:
            GlossaryError: the file cannot be written.
        """
        for first in range(0, len(terms), PRONOUNCED_AT_ONCE):
            part = terms[first : first + PRONOUNCED_AT_ONCE]
            self._pronouncer.phonemes(form for term in part for form in spoken_forms(term))
            if progress is not None:
                progress(first + len(part))
        index_file.save(self._section(terms), path, self.vocabulary(speech_llm))

    def load_index(self, path: Path, speech_llm: str) -> GlossaryIndex:
        """Map what ``save_index`` wrote.

        Raises:
            GlossaryError: the file is missing, damaged or made for something else.
        """
        return index_file.load(path, self.table, self.vocabulary(speech_llm))

    def edit(
        self, index: GlossaryIndex, *, add: Sequence[Term] = (), remove: Sequence[str] = ()
    ) -> GlossaryIndex:
        """The next version of a glossary; costs what is added and removed, not what is kept.

        Small sections are joined as they pile up, each at least twice as large as the next, so that
        a glossary edited a thousand times has about ten.
        """
        edited = index.edit(add=self._section(add) if add else None, remove=remove)
        while (small := edited.tail()) is not None:
            kept, terms = small
            edited = kept.edit(add=self._section(terms))
        return edited

    def start(self) -> RetrieverState:
        """The state at the beginning of a segment."""
        return RetrieverState(self._scorer.start())

    def step(self, index: GlossaryIndex, state: RetrieverState, frames: FloatArray) -> Evidence:
        """Score all terms against the open segment.

        Args:
            index: the glossary; may be another version, or another glossary, at each step.
            state: of this segment; settled frames are taken into it.
            frames: float32 [T, D], every encoder frame of the segment so far.
        """
        heard = self._hear(index, state, frames)
        logits = self.calibration.logits(heard.match.cost, heard.length, heard.gain)
        return _evidence(heard, logits + index.log_weights[heard.term])

    def evidence(self, index: GlossaryIndex, frames: FloatArray) -> Heard:
        """What calibration is fitted on: a whole segment, heard at once."""
        return self._hear(index, self.start(), frames)

    def fit(self, state: RetrieverState, phones: PhoneIndex, begin: int, end: int) -> Fit | None:
        """How well the best of some pronunciations fits a stretch of what was heard.

        Args:
            state: of a segment that was scored.
            phones: the pronunciations, see ``GlossaryIndex.pronunciations`` and ``pronounce``.
            begin: first encoder frame of the stretch.
            end: one past its last encoder frame.

        Returns:
            The match with the least cost per phoneme; None where there is nothing to be matched.
        """
        if state.tail is None or not len(phones):
            return None
        first = max(begin, 0) // POOL
        stretch = np.concatenate([*state.emissions, state.tail])[first : -(-end // POOL)]
        if not len(stretch):
            return None
        match = self._matched(phones, stretch)
        best = int(np.argmin(match.cost / phones.lengths))
        start, stop = (first + int(match.start[best])) * POOL, (first + int(match.end[best])) * POOL
        return Fit(float(match.cost[best]), int(phones.lengths[best]), start, stop + POOL)

    def pronounce(self, text: str) -> PhoneIndex:
        """The ways to say a text that is no term; nothing of it is kept."""
        said = self._pronouncer.phonemes([text], keep=False)[text]
        readings = [ids for ids in map(self._symbols, said) if ids]
        return PhoneIndex(readings, [0] * len(readings))

    @torch.no_grad()
    def _hear(self, index: GlossaryIndex, state: RetrieverState, frames: FloatArray) -> Heard:
        settled = max(state.settled, (len(frames) - LOOKAHEAD_FRAMES) // POOL * POOL)
        split = (settled - state.settled) // POOL
        pooled = torch.from_numpy(pool(frames[state.settled :])).to(self._device)
        scores = self._scores(index, state, Chunk(state.hearing, pooled, split))
        emissions = self._emissions(frames, state.settled)
        fresh = emissions[split:]
        if sum(len(section.phones) for _, section in index.sections) <= SPOTTER_LIMIT:
            self._follow(index, state, emissions[:split])
            found = [
                (first, section.phones, self._spotted(section, state.spotters[section], fresh))
                for first, section in index.sections
            ]
        else:
            whole = np.concatenate([*state.emissions, emissions])
            found = [
                (first, phones, self._matched(phones, whole))
                for first, phones in _shortlisted(index, scores)
            ]
        state.emissions.append(emissions[:split])
        state.tail = fresh
        state.settled = settled
        return _joined(found, index, scores)

    def _scores(self, index: GlossaryIndex, state: RetrieverState, chunk: Chunk) -> Tensor:
        """[N] of the A2P head; what is as long as the glossary is allocated once a segment."""
        state.gain = self._scorer.hear([chunk], state.gain)
        if state.scores is None or state.scores.shape[1] != index.numbers:
            state.scores = state.gain.new_empty(1, index.numbers)
        return index.scores(state.gain, state.scores)[0]

    def _follow(self, index: GlossaryIndex, state: RetrieverState, settled: FloatArray) -> None:
        """Take settled emissions into each section's state; a new one hears what it missed."""
        spotters = {}
        for _, section in index.sections:
            spotter = state.spotters.get(section)
            if spotter is None:
                spotter = SpotterState.empty(section.phones)
                for missed in state.emissions:
                    spotter.advance(section.phones, missed, self._costs)
            spotter.advance(section.phones, settled, self._costs)
            spotters[section] = spotter
        state.spotters = spotters

    def _spotted(self, section: Section, spotter: SpotterState, fresh: FloatArray) -> Matches:
        ahead = spotter.copy()
        ahead.advance(section.phones, fresh, self._costs)
        return ahead.matches(section.phones)

    def _matched(self, phones: PhoneIndex, emissions: FloatArray) -> Matches:
        spotter = SpotterState.empty(phones)
        spotter.advance(phones, emissions, self._costs)
        return spotter.matches(phones)

    def _emissions(self, frames: FloatArray, begin: int) -> FloatArray:
        """Emission costs [T', S] at 25 Hz of the frames from ``begin`` on."""
        context = max(0, begin - 2 * self._ctc.lookahead_frames) // POOL * POOL
        heard = torch.from_numpy(np.ascontiguousarray(frames[context:]))[None]
        log_probs = self._ctc(heard)[0].numpy()[(begin - context) // POOL :]
        return emission_costs(log_probs, self._substitution)

    def _section(self, terms: Sequence[Term]) -> Section:
        spellings = [(term.text, *term.sounds_like) for term in terms]
        ids = iter(self._tokenize([" " + text for forms in spellings for text in forms]))
        tokens = [[next(ids) for _ in forms] for forms in spellings]
        return Section.of(TermTable.of(terms), tokens, self._phone_index(terms), self.table)

    def _phone_index(self, terms: Sequence[Term]) -> PhoneIndex:
        forms = [spoken_forms(term) for term in terms]
        said = self._pronouncer.phonemes(form for group in forms for form in group)
        pronunciations: list[list[int]] = []
        term_of: list[int] = []
        for number, (term, group) in enumerate(zip(terms, forms, strict=True)):
            # The spotter forgives vowels: a reading is worth following if its consonants are new,
            # or if the glossary itself says so.
            ways: dict[tuple[int, ...], list[int]] = {}
            for form in group:
                for reading in map(self._symbols, said[form]):
                    given = form in term.sounds_like
                    key = tuple(s for s in reading if given or s not in self._vowels)
                    ways.setdefault(key, reading)
            for reading in filter(None, ways.values()):
                pronunciations.append(reading)
                term_of.append(number)
        return PhoneIndex(pronunciations, term_of)

    def _symbols(self, phonemes: str) -> list[int]:
        known = self._symbol_ids
        return [known[symbol] for symbol in to_symbols(phonemes) if symbol in known]


def _shortlisted(index: GlossaryIndex, scores: Tensor) -> list[tuple[int, PhoneIndex]]:
    """Pronunciations, by section, of the terms that the A2P head ranks highest."""
    best = term_score.top_k(scores, SHORTLIST)[1].cpu().numpy()
    chosen = np.zeros(index.numbers, np.bool_)
    chosen[best] = True
    return [
        (
            first,
            section.phones.subset(
                np.flatnonzero(chosen[first + section.phones.term_of]).astype(np.int32)
            ),
        )
        for first, section in index.sections
    ]


def _joined(
    found: Sequence[tuple[int, PhoneIndex, Matches]], index: GlossaryIndex, scores: Tensor
) -> Heard:
    """One table of all sections; what was switched off gets no gain."""
    term = np.concatenate([first + phones.term_of for first, phones, _ in found])
    parts = (vars(matches).values() for *_, matches in found)
    weights = index.log_weights[term]
    silent = np.isinf(weights)
    gain = scores.cpu().numpy()[term] - np.where(silent, 0, weights)
    return Heard(
        term,
        np.concatenate([phones.lengths for _, phones, _ in found]),
        Matches(*(np.concatenate(columns) for columns in zip(*parts, strict=True))),
        np.where(silent, 0, gain).astype(np.float32),
    )


def _evidence(heard: Heard, logits: FloatArray) -> Evidence:
    """Of the ways to say a term, the most probable one speaks for it."""
    fresh = np.diff(heard.term, prepend=-1) > 0
    terms, owner = heard.term[fresh], np.cumsum(fresh) - 1
    order = np.argsort(logits, kind="stable")  # later writes win below
    best = np.zeros(len(terms), np.int64)
    best[owner[order]] = order
    return Evidence(
        terms,
        sigmoid(logits[best]),
        heard.match.cost[best],
        heard.match.start[best] * POOL,
        (heard.match.end[best] + 1) * POOL,
    )


def pool(frames: FloatArray) -> FloatArray:
    """Average pairs of frames: [T, D] to [ceil(T / POOL), D]; an odd last frame stands alone."""
    even = len(frames) // POOL * POOL
    pairs = frames[:even].reshape(-1, POOL, frames.shape[1]).mean(axis=1)
    return np.concatenate([pairs, frames[even:]]).astype(np.float32)
