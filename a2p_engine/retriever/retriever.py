"""Both stages behind one face: frames of an open segment in, probable terms out, tick by tick.

Frames older than ``LOOKAHEAD_FRAMES`` are settled: both stages take them into their states and
never look at them again. The newest ones may still change when more audio gives them context, so
they are a provisional tail, scored on copies and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from a2p_engine.ops import term_score
from a2p_engine.retriever import index_file
from a2p_engine.retriever.calibration import (
    FORK,
    HEARD,
    KNOWN,
    MOST_WORDS,
    READ,
    SPELT,
    TERM,
    Calibration,
    claimed,
    heard_features,
    probabilities,
    sound_features,
)
from a2p_engine.retriever.checkpoints import load_head
from a2p_engine.retriever.evidence import (
    Evidence,
    Fit,
    Heard,
    best_of_each,
    joined,
    likelihoods,
)
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.index_file import Vocabulary
from a2p_engine.retriever.joint_scorer import JointScorer
from a2p_engine.retriever.phoneme_ctc import BLANK, BOUNDARY, PhonemeCTC, with_boundaries
from a2p_engine.retriever.pronunciation import Pronouncer, spoken_forms
from a2p_engine.retriever.spelling import words_only
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
from a2p_engine.retriever.token_spellings import Tokenize, TokenSpellings, rarity
from a2p_engine.retriever.token_table import TokenTable
from a2p_engine.retriever.transcript import Reading, Transcript, spellings_of
from a2p_engine.threads import beside
from a2p_engine.types import Term

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Spotted = tuple[int, PhoneIndex, Matches]  # a section's first term, its pronunciations, matched

Progress = Callable[[int], None]
CALIBRATION = "calibration.json"

POOL = 2  # 50 Hz Whisper frames to the 25 Hz both stages work at
# A second of right context settles Whisper's features; in frames of the stages.
LOOKAHEAD_FRAMES = 25
# Up to this many pronunciations are followed frame by frame. Beyond, the A2P head picks that many
# terms each tick and the spotter hears the segment again for them alone.
SPOTTER_LIMIT = 400_000
SHORTLIST = 20_000
# The smallest glossary that calibration has seen. Where as many terms are said of fewer, each is
# said more often: its odds go with one over their number, down to a glossary of so few.
LEAST_CROWD = 2_000
FEW = 250
WRITTEN_WORDS = 10_000  # remembered, in memory only
MOST_BEHIND = 12  # frames of the stages; more say no more
CANDIDATES = 150  # most probable terms at first sight, whose probability is then worked out
PRONOUNCED_AT_ONCE = 1_000


@dataclass
class RetrieverState:
    """What has been heard of the open segment, whatever glossary it is scored with.

    Attributes:
        hearing: of the A2P head.
        spotters: of each section of the glossary that is followed frame by frame.
        log_probs: [T, S] of the phoneme head, settled frames, chunk by chunk.
        emissions: [T, S] their costs, for sections added later.
        tail_log_probs: [T', S] of the provisional frames behind them.
        tail: [T', S] their costs.
        settled: encoder frames.
        gain: [1, V] and scores [1, N] of the last tick, kept to be written to again.
        scores: see ``gain``.
    """

    hearing: Hearing
    spotters: dict[Section, SpotterState] = field(default_factory=dict)
    log_probs: list[FloatArray] = field(default_factory=list)
    emissions: list[FloatArray] = field(default_factory=list)
    tail_log_probs: FloatArray | None = None
    tail: FloatArray | None = None
    settled: int = 0
    gain: Tensor | None = None
    scores: Tensor | None = None


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
        self._scorer = JointScorer(TermScorer(head, self.table))
        self._ctc = ctc
        self.pool = ctc.config.pool  # encoder frames to one frame of the stages
        self.calibration = calibration
        self._costs = costs
        self._substitution = substitution_costs(ctc.symbols, costs)
        self._tokenize = tokenize
        self._pronouncer = pronouncer
        self._symbol_ids = {symbol: number for number, symbol in enumerate(ctc.symbols)}
        self._written = lru_cache(WRITTEN_WORDS)(self._look_up)
        self._spellings = TokenSpellings(tokenize)
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

    def step(
        self,
        index: GlossaryIndex,
        state: RetrieverState,
        frames: FloatArray,
        transcript: Transcript | None = None,
        *,
        follow: bool | None = None,
        rate: float = 1.0,
    ) -> Evidence:
        """Score all terms against the open segment.

        Args:
            index: the glossary; may be another version, or another glossary, at each step.
            state: of this segment; settled frames are taken into it.
            frames: float32 [T, D], every encoder frame of the segment so far.
            transcript: what the speech LLM made of the segment, or of its beginning.
            follow: whether the spotter follows every pronunciation; None leaves it to their number.
            rate: at which terms are said, as a share of that in calibration; see ``TermRate``.
        """
        heard = self.hear(index, state, frames, transcript, follow=follow)
        reading = self.read(state, transcript) if transcript and transcript.words else None
        found = self.candidates(heard, index, reading)
        logits = self.calibration.final.logits(self.describe(found, index, state, reading))
        often = rate * max(LEAST_CROWD / max(index.size, FEW), 1.0)
        logits += index.log_weights[found.term] + np.log(np.float32(often))
        texts = index.texts(found.term)
        claims = claimed(texts, found.match.start, found.match.end + 1)
        return Evidence(
            found.term,
            probabilities(logits, claims),
            found.match.cost,
            found.match.start * self.pool,
            (found.match.end + 1) * self.pool,
        )

    def evidence(self, index: GlossaryIndex, frames: FloatArray) -> Heard:
        """What both stages say of every pronunciation, a whole segment heard at once."""
        return self.hear(index, self.start(), frames)

    def read(self, state: RetrieverState, transcript: Transcript) -> Reading:
        """A transcript laid along what was heard."""
        words = [self._written(word.text.strip()) for word in transcript.words]
        symbols = [symbols for symbols, _ in words]
        return Reading(
            transcript,
            costs=_joined_frames(state.emissions, state.tail),
            pronunciations=_run_together(symbols, self._symbol_ids.get(BOUNDARY)),
            rarities=[rarity for _, rarity in words],
        )

    def candidates(
        self, heard: Heard, index: GlossaryIndex, reading: Reading | None, limit: int = CANDIDATES
    ) -> Heard:
        """The pronunciations of the most probable terms at first sight, one for each term.

        Those that the text spells out are among them.
        """
        features, covered = self._sieved(heard, reading)
        logits = self.calibration.sieve.logits(features, covered) + index.log_weights[heard.term]
        logits[~np.isfinite(heard.match.cost)] = -np.inf
        best = best_of_each(heard.term, logits)
        if len(best) > limit:
            order = -logits[best]
            if reading is not None:
                spelt = index.find_all(reading.spellings.texts)
                order[np.isin(heard.term[best], spelt) & np.isfinite(order)] = -np.inf
            best = np.sort(best[np.argpartition(order, limit)[:limit]])
        return heard.part(best[np.isfinite(logits[best])])

    def describe(
        self,
        found: Heard,
        index: GlossaryIndex,
        state: RetrieverState,
        reading: Reading | None,
        size: int | None = None,
    ) -> FloatArray:
        """All that is known of candidates, as the calibration wants it.

        Args:
            found: the candidates.
            index: the glossary.
            state: of the segment.
            reading: what was written of it.
            size: number of terms, if not all of the glossary were searched.

        Returns:
            [M, F], one column for each name in ``calibration.FINAL``.
        """
        features, covered = self._sieved(found, reading)
        heard, read = np.split(features, [len(HEARD)], axis=1)
        log_probs = _joined_frames(state.log_probs, state.tail_log_probs)
        sound = sound_features(likelihoods(log_probs, found), found.length)
        behind = np.minimum(len(log_probs) - 1 - found.match.end, MOST_BEHIND)[:, None]
        written = np.zeros((len(read), len(READ) + len(SPELT) + len(FORK) + len(KNOWN)), np.float32)
        texts = index.texts(found.term)
        if reading is not None:
            written = self._compared(reading, texts, found.match, read)
            written[~covered] = 0
        term = np.full((len(read), len(TERM)), np.log(max(size or index.size, LEAST_CROWD)))
        words = [len(text.split()) for text in texts]
        term[:, TERM.index("words")] = np.minimum(words, MOST_WORDS)
        spellings = self._spellings.of(texts)
        term[:, TERM.index("unusual")] = [spellings[text].rarity for text in texts]
        return np.concatenate([heard, sound, behind, written, term], axis=1, dtype=np.float32)

    def _compared(
        self, reading: Reading, texts: Sequence[str], match: Matches, read: FloatArray
    ) -> FloatArray:
        """Features ``READ``, ``SPELT``, ``FORK`` and ``KNOWN`` of candidates that a text covers."""
        columns = np.zeros((len(texts), 4), np.float32)
        spellings = self._spellings.of(texts)
        places = zip(match.start.tolist(), match.end.tolist(), strict=True)
        for row, text, (start, end) in zip(columns, texts, places, strict=True):
            spelt = reading.spellings.contain(text, start, end + 1)
            log_odds = reading.fork(spellings[text].tokens, start)
            row[:] = spelt, 0.0 if spelt else log_odds or 0.0, 1, log_odds is not None
        return np.concatenate([read, columns], axis=1)

    def _sieved(
        self, heard: Heard, reading: Reading | None
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Features that every term has, and whether a text covers it."""
        match = heard.match
        basic = heard_features(match.cost, heard.length, heard.gain)
        if reading is None:
            written = np.zeros((len(basic), len(READ)), np.float32)
            covered = np.zeros(len(basic), np.bool_)
        else:
            written = reading.features(match.cost, match.start, match.end + 1)
            covered = reading.covers(match.start, match.end + 1)
        return np.concatenate([basic, written], axis=1), covered

    def _look_up(self, word: str) -> tuple[list[int], float]:
        """Symbols of a written word and how rare it is."""
        bare = words_only(word)
        said = self._pronouncer.phonemes([bare], keep=False)[bare]
        tokens = self._tokenize([f" {bare}"])[0] if bare else []
        return self._symbols(said[0]) if said else [], rarity(tokens)

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
        pool = self.pool
        first = max(begin, 0) // pool
        stretch = np.concatenate([*state.emissions, state.tail])[first : -(-end // pool)]
        if not len(stretch):
            return None
        match = self._matched(phones, stretch)
        best = int(np.argmin(match.cost / phones.lengths))
        start, stop = (first + int(match.start[best])) * pool, (first + int(match.end[best])) * pool
        return Fit(float(match.cost[best]), int(phones.lengths[best]), start, stop + pool)

    def phonemes_heard(self, state: RetrieverState) -> int:
        """How many phonemes, word boundaries among them, the segment has as far as it was heard."""
        best = _joined_frames(state.log_probs, state.tail_log_probs).argmax(axis=1)
        return int(((best != BLANK) & (np.diff(best, prepend=BLANK) != 0)).sum())

    def pronounce(self, text: str) -> PhoneIndex:
        """The ways to say a text that is no term; nothing of it is kept."""
        said = self._pronouncer.phonemes([text], keep=False)[text]
        readings = [ids for ids in map(self._symbols, said) if ids]
        return PhoneIndex(readings, [0] * len(readings))

    def hear(
        self,
        index: GlossaryIndex,
        state: RetrieverState,
        frames: FloatArray,
        transcript: Transcript | None = None,
        *,
        follow: bool | None = None,
    ) -> Heard:
        """What both stages say of every pronunciation; arguments as for ``step``.

        Of a glossary too long to be followed, the terms that the transcript spells out are among
        those that the spotter hears.
        """
        settled = max(state.settled, (len(frames) // self.pool - LOOKAHEAD_FRAMES) * self.pool)
        split = (settled - state.settled) // self.pool
        pooled = torch.from_numpy(pool(frames[state.settled :], self.pool)).to(self._device)
        if follow is None:
            follow = sum(len(section.phones) for _, section in index.sections) <= SPOTTER_LIMIT

        def spot() -> tuple[FloatArray, FloatArray, list[Spotted]]:
            log_probs = self._log_probs(frames, state.settled)
            emissions = emission_costs(log_probs, self._substitution)
            followed = self._followed(index, state, emissions, split) if follow else []
            return log_probs, emissions, followed

        chunk = Chunk(state.hearing, pooled, split)
        scores, (log_probs, emissions, found) = beside(
            lambda: self._scores(index, state, chunk), spot
        )
        if not follow:
            whole = np.concatenate([*state.emissions, emissions])
            found = [
                (first, phones, self._matched(phones, whole))
                for first, phones in _shortlisted(index, scores, transcript)
            ]
        state.log_probs.append(log_probs[:split])
        state.emissions.append(emissions[:split])
        state.tail_log_probs, state.tail = log_probs[split:], emissions[split:]
        state.settled = settled
        return joined(found, index, scores)

    @torch.no_grad()
    def _scores(self, index: GlossaryIndex, state: RetrieverState, chunk: Chunk) -> Tensor:
        """[N] of the A2P head; what is as long as the glossary is allocated once a segment."""
        state.gain = self._scorer.hear(chunk, state.gain)
        if state.scores is None or state.scores.shape[1] != index.numbers:
            state.scores = state.gain.new_empty(1, index.numbers)
        return index.scores(state.gain, state.scores)[0]

    def _followed(
        self, index: GlossaryIndex, state: RetrieverState, emissions: FloatArray, split: int
    ) -> list[Spotted]:
        """Take ``split`` frames into each section's state, the others into a copy to be matched.

        A section that is new hears what it missed.
        """
        spotters: dict[Section, SpotterState] = {}
        found = []
        for first, section in index.sections:
            phones, spotter = section.phones, state.spotters.get(section)
            if spotter is None:
                spotter = SpotterState.empty(phones)
                for missed in state.emissions:
                    spotter.advance(phones, missed, self._costs)
            spotter.advance(phones, emissions[:split], self._costs)
            spotters[section] = spotter
            ahead = spotter.copy()
            ahead.advance(phones, emissions[split:], self._costs)
            found.append((first, phones, ahead.matches(phones)))
        state.spotters = spotters
        return found

    def _matched(self, phones: PhoneIndex, emissions: FloatArray) -> Matches:
        spotter = SpotterState.empty(phones)
        spotter.advance(phones, emissions, self._costs)
        return spotter.matches(phones)

    @torch.no_grad()
    def _log_probs(self, frames: FloatArray, begin: int) -> FloatArray:
        """The phoneme head's [T', S] at 25 Hz of the frames from ``begin`` on."""
        context = max(0, begin - 2 * self._ctc.lookahead_frames) // self.pool * self.pool
        heard = torch.from_numpy(np.ascontiguousarray(frames[context:]))[None]
        return np.asarray(self._ctc(heard)[0].numpy()[(begin - context) // self.pool :])

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
        return [known[symbol] for symbol in with_boundaries(phonemes) if symbol in known]


def _shortlisted(
    index: GlossaryIndex, scores: Tensor, transcript: Transcript | None
) -> list[tuple[int, PhoneIndex]]:
    """Pronunciations, by section, of terms that are written or the A2P head ranks highest."""
    best = term_score.top_k(scores, SHORTLIST)[1].cpu().numpy()
    chosen = np.zeros(index.numbers, np.bool_)
    chosen[best] = True
    if transcript is not None:
        chosen[index.find_all(spellings_of(transcript).texts)] = True
    return [
        (
            first,
            section.phones.subset(
                np.flatnonzero(chosen[first + section.phones.term_of]).astype(np.int32)
            ),
        )
        for first, section in index.sections
    ]


def _joined_frames(chunks: Sequence[FloatArray], tail: FloatArray | None) -> FloatArray:
    """[T, S] of all frames heard."""
    if tail is None:
        return np.zeros((0, 1), np.float32)
    return np.concatenate([*chunks, tail])


def _run_together(words: Sequence[list[int]], boundary: int | None) -> list[list[int]]:
    """Words as they are said one after the other: neighbours share the boundary between them."""
    joined: list[list[int]] = []
    spoken = False
    for word in words:
        joined.append(word[1:] if spoken and word and word[0] == boundary else word)
        spoken = spoken or bool(word)
    return joined


def pool(frames: FloatArray, pool: int = POOL) -> FloatArray:
    """Average neighbours: [T, D] to [ceil(T / pool), D]; an odd last frame stands alone."""
    even = len(frames) // pool * pool
    pairs = frames[:even].reshape(-1, pool, frames.shape[1]).mean(axis=1)
    return np.concatenate([pairs, frames[even:]]).astype(np.float32)
