"""Both stages behind one face: frames of an open segment in, probable terms out, tick by tick.

Frames older than ``LOOKAHEAD_FRAMES`` are committed: both stages take them into their states and
never look at them again. The newest ones may still change when more audio gives them context, so
they are a provisional tail, scored on copies and forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from a2p_engine.errors import ModelError
from a2p_engine.retriever.attention import AttentionConfig, AttentionRetriever
from a2p_engine.retriever.calibration import Calibration, sigmoid
from a2p_engine.retriever.folded import FoldedHead, fold
from a2p_engine.retriever.incremental import AttentionState, pool_terms
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
from a2p_engine.types import Term

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]

Tokenize = Callable[[Sequence[str]], list[list[int]]]
CALIBRATION = "calibration.json"

POOL = 2  # 50 Hz Whisper frames to the 25 Hz both stages work at
# A second of right context settles Whisper's features; in encoder frames, a multiple of POOL.
LOOKAHEAD_FRAMES = 50
# Up to this many pronunciations are followed frame by frame. Beyond, the A2P head picks that many
# terms each tick and the spotter hears the segment again for them alone.
SPOTTER_LIMIT = 100_000
SHORTLIST = 4_000


@dataclass(frozen=True, kw_only=True)
class GlossaryIndex:
    """A glossary ready for scoring; immutable and shared by every session that uses it.

    Attributes:
        terms: N terms.
        queries: [H, V, d] and priors [V] of the distinct tokens in use.
        rows: tokens of all terms, one after the other, as rows of ``queries``.
        offsets: [N + 1] into ``rows``.
        phones: pronunciations of the terms.
        log_weights: [N] log of each term's weight.
    """

    terms: tuple[Term, ...]
    queries: Tensor
    priors: Tensor
    rows: Tensor
    offsets: Tensor
    phones: PhoneIndex
    log_weights: FloatArray


@dataclass
class RetrieverState:
    """What has been heard of the open segment."""

    attention: AttentionState
    spotter: SpotterState
    emissions: list[FloatArray] = field(default_factory=list)
    committed: int = 0  # encoder frames


@dataclass(frozen=True)
class Evidence:
    """Scores of all N terms after a tick.

    Attributes:
        probability: [N] calibrated.
        cost: [N] nats of the best match, inf where there is none.
        start: [N] first encoder frame of the match.
        end: [N] one past its last encoder frame.
    """

    probability: FloatArray
    cost: FloatArray
    start: IntArray
    end: IntArray


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
        """
        self._head = head
        self._ctc = ctc
        self.calibration = calibration
        self._costs = costs
        self._substitution = substitution_costs(ctc.symbols, costs)
        self._embeddings = embeddings
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
    ) -> Retriever:
        """Read a2p_head.safetensors, phoneme_ctc.safetensors and calibration.json.

        Args:
            directory: where the files are.
            embeddings: [V, D] token embedding table of the speech LLM.
            tokenize: texts to token ids in the speech LLM's vocabulary.
            pronouncer: texts to phoneme strings.
            calibration: instead of the file's.

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
        )

    def index(self, terms: Sequence[Term]) -> GlossaryIndex:
        """Make a glossary ready for scoring."""
        tokens = self._tokenize([" " + term.text for term in terms])
        flat = np.array([token for ids in tokens for token in ids], np.int64)
        distinct, rows = np.unique(flat, return_inverse=True)
        queries, priors = self._head.tokens(self._embeddings[torch.from_numpy(distinct)])
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64)
        return GlossaryIndex(
            terms=tuple(terms),
            queries=queries,
            priors=priors,
            rows=torch.from_numpy(rows.astype(np.int64)),
            offsets=torch.from_numpy(offsets),
            phones=self._phone_index(terms),
            log_weights=np.log([term.weight for term in terms]).astype(np.float32),
        )

    def start(self, index: GlossaryIndex) -> RetrieverState:
        """The state at the beginning of a segment."""
        tokens = index.queries.shape[1]
        return RetrieverState(
            AttentionState.empty(self._head.heads, tokens),
            SpotterState.empty(self._followed(index)),
        )

    def step(self, index: GlossaryIndex, state: RetrieverState, frames: FloatArray) -> Evidence:
        """Score all terms against the open segment.

        Args:
            index: the glossary.
            state: of this segment and glossary; committed frames are taken into it.
            frames: float32 [T, D], every encoder frame of the segment so far.
        """
        phones, matches, gain = self._hear(index, state, frames)
        logits = self.calibration.logits(matches.cost, phones.lengths, gain[phones.term_of])
        return _evidence(index, phones, matches, logits)

    def evidence(
        self, index: GlossaryIndex, frames: FloatArray
    ) -> tuple[PhoneIndex, FloatArray, FloatArray]:
        """What calibration is fitted on: a whole segment, heard at once.

        Returns:
            The pronunciations followed, [M] cost of each and [M] gain of its term.
        """
        phones, matches, gain = self._hear(index, self.start(index), frames)
        return phones, matches.cost, gain[phones.term_of]

    @torch.no_grad()
    def _hear(
        self, index: GlossaryIndex, state: RetrieverState, frames: FloatArray
    ) -> tuple[PhoneIndex, Matches, FloatArray]:
        """Both stages: the pronunciations followed, their matches, and [N] gain of the A2P head."""
        settled = max(state.committed, (len(frames) - LOOKAHEAD_FRAMES) // POOL * POOL)
        emissions = self._emissions(frames, state.committed)
        split = (settled - state.committed) // POOL
        state.attention = state.attention.merge(
            self._attend(index, frames[state.committed : settled])
        )
        state.spotter.advance(self._followed(index), emissions[:split], self._costs)
        state.emissions.append(emissions[:split])
        state.committed = settled
        attention = state.attention.merge(self._attend(index, frames[settled:]))
        gain = pool_terms(attention.gain(), index.rows, index.offsets).numpy()
        if len(index.phones) <= SPOTTER_LIMIT:
            phones, spotter, rest = index.phones, state.spotter.copy(), emissions[split:]
        else:
            phones = self._shortlisted(index, gain)
            spotter = SpotterState.empty(phones)
            rest = np.concatenate([*state.emissions, emissions[split:]])
        spotter.advance(phones, rest, self._costs)
        return phones, spotter.matches(phones), gain

    def _followed(self, index: GlossaryIndex) -> PhoneIndex:
        """What the incremental spotter state covers: everything, or nothing beyond the limit."""
        if len(index.phones) <= SPOTTER_LIMIT:
            return index.phones
        return index.phones.subset(np.zeros(0, np.int32))

    def _shortlisted(self, index: GlossaryIndex, gain: FloatArray) -> PhoneIndex:
        best = np.argpartition(-gain, SHORTLIST)[:SHORTLIST]
        chosen = np.zeros(len(index.terms), bool)
        chosen[best] = True
        return index.phones.subset(np.flatnonzero(chosen[index.phones.term_of]).astype(np.int32))

    def _attend(self, index: GlossaryIndex, frames: FloatArray) -> AttentionState:
        return AttentionState.of(index.queries, *self._head.frames(torch.from_numpy(pool(frames))))

    def _emissions(self, frames: FloatArray, begin: int) -> FloatArray:
        """Emission costs [T', S] at 25 Hz of the frames from ``begin`` on."""
        context = max(0, begin - 2 * self._ctc.lookahead_frames) // POOL * POOL
        heard = torch.from_numpy(np.ascontiguousarray(frames[context:]))[None]
        log_probs = self._ctc(heard)[0].numpy()[(begin - context) // POOL :]
        return emission_costs(log_probs, self._substitution)

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


def _evidence(
    index: GlossaryIndex, phones: PhoneIndex, matches: Matches, logits: FloatArray
) -> Evidence:
    """Of the ways to say a term, the most probable one speaks for it."""
    count = len(index.terms)
    order = np.argsort(logits, kind="stable")  # later writes win below
    owner = phones.term_of[order]
    best = np.full(count, -np.inf, np.float32)
    cost = np.full(count, np.inf, np.float32)
    start, end = np.zeros(count, np.int32), np.zeros(count, np.int32)
    best[owner] = logits[order]
    cost[owner] = matches.cost[order]
    start[owner] = matches.start[order] * POOL
    end[owner] = (matches.end[order] + 1) * POOL
    return Evidence(sigmoid(best + index.log_weights), cost, start, end)


def pool(frames: FloatArray) -> FloatArray:
    """Average pairs of frames: [T, D] to [ceil(T / POOL), D]; an odd last frame stands alone."""
    even = len(frames) // POOL * POOL
    pairs = frames[:even].reshape(-1, POOL, frames.shape[1]).mean(axis=1)
    return np.concatenate([pairs, frames[even:]]).astype(np.float32)


def load_head(path: Path) -> AttentionRetriever:
    """Read a trained A2P head: released state-dict names, its configuration in the metadata.

    Raises:
        ModelError: the file is missing, damaged or of another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}
        config = AttentionConfig(**json.loads(metadata["config"]))
        module = AttentionRetriever(config)
        module.load_state_dict(state)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot read A2P head {path}: {error}") from error
    return module.eval()
