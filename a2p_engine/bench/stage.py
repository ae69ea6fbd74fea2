"""A glossary, its token table and sessions that have heard some audio, ready for ticks."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from a2p_engine.bench.glossaries import Glossary
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.synthetic import Model
from a2p_engine.ops import term_score
from a2p_engine.ops.term_score import State
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.term_scorer import Chunk, Hearing, TermScorer
from a2p_engine.retriever.token_table import ADDED_AT_ONCE, TokenTable

TOP = 10
HEARD_FRAMES = 250  # by every session before the first tick

Top = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One glossary over one model.

    Attributes:
        model: the head and its audio.
        glossary: what was made up.
        scorer: over a table that holds the glossary's tokens and no others.
        index: first version of the glossary.
        fill_ms: time to compute the table's queries.
    """

    model: Model
    glossary: Glossary
    scorer: TermScorer
    index: GlossaryIndex
    fill_ms: float

    @classmethod
    def of(cls, model: Model, glossary: Glossary) -> Stage:
        """Fill a token table and index the glossary."""
        table = TokenTable(model.head, model.embeddings, device=model.recording.device)
        begin = time.perf_counter()
        table.rows(glossary.distinct)
        fill_ms = 1e3 * (time.perf_counter() - begin)
        section = Section.packed(
            glossary.table(),
            glossary.token_ids,
            glossary.offsets,
            None,
            PhoneIndex((), ()),
            table,
        )
        return cls(
            model=model,
            glossary=glossary,
            fill_ms=fill_ms,
            scorer=TermScorer(model.head, table),
            index=GlossaryIndex.of(section),
        )

    @property
    def table(self) -> TokenTable:
        """Queries of the tokens in use."""
        return self.scorer.table

    def frames(self, begin: int, count: int) -> Tensor:
        """[T, D] of the recording, from anywhere in it."""
        recording = self.model.recording
        begin %= len(recording) - count + 1
        return recording[begin : begin + count]

    def heard(self) -> Hearing:
        """A session that has heard ten seconds."""
        hearing = self.scorer.start()
        self.scorer.hear([Chunk(hearing, self.frames(0, HEARD_FRAMES), HEARD_FRAMES)])
        return hearing

    def rescore(self, frames: int, number: int) -> Top:
        """Hear a window from nothing and find the best terms."""
        window = self.frames(number * 31, frames)
        gain = self.scorer.hear([Chunk(self.scorer.start(), window, frames)])
        return top(self.index.scores(gain))


class Ticks:
    """Ticks of B sessions together; each hears other frames at each tick."""

    def __init__(self, stage: Stage, *, sessions: int, settled: int, provisional: int = 0) -> None:
        """Every tick settles some frames and looks at some provisional ones after them."""
        self._stage = stage
        self._settled = settled
        self._frames = settled + provisional
        first = stage.heard()
        self.hearings = [_copy(first) for _ in range(sessions)]
        device = stage.model.recording.device
        self._gain = torch.empty(sessions, stage.table.blocks * stage.table.width, device=device)
        self._scores = torch.empty(sessions, stage.index.numbers, device=device)

    def __call__(self, number: int) -> Top:
        """Project, attend, pool, and find the best terms of each session."""
        chunks = [
            Chunk(
                hearing, self._stage.frames(97 * session + number * 38, self._frames), self._settled
            )
            for session, hearing in enumerate(self.hearings)
        ]
        gain = self._stage.scorer.hear(chunks, self._gain)
        return top(self._stage.index.scores(gain, self._scores))

    def forget(self) -> None:
        """Drop what sessions keep for tokens added later, which would grow from run to run."""
        for hearing in self.hearings:
            hearing.keys.clear()
            hearing.values.clear()


def top(scores: Tensor) -> Top:
    """The best terms of each session: [B, N] scores."""
    return [term_score.top_k(row, TOP) for row in scores]


def stage_bytes(preset: Preset, glossary: Glossary, query_bytes: int) -> int:
    """Memory of a stage without sessions."""
    tokens = len(glossary.distinct)
    rows_at_once = 4 * min(tokens, ADDED_AT_ONCE) * preset.width * 4
    per_term = 80  # texts, hashes, offsets, bias
    index = 3 * glossary.token_ids.nbytes + per_term * len(glossary)
    return tokens * preset.width * query_bytes + rows_at_once + index


def session_bytes(preset: Preset, glossary: Glossary, frames: int) -> int:
    """Memory that one more session takes: state, gain, scores, frames, keys."""
    tokens = len(glossary.distinct)
    state = tokens * preset.heads * 2 * 4
    return state + 4 * (tokens + len(glossary)) + 4 * 4 * frames * preset.width


def _copy(hearing: Hearing) -> Hearing:
    state = State(hearing.state.lse.clone(), hearing.state.mean.clone())
    return Hearing(hearing.rows, state)
