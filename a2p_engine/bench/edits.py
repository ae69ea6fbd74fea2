"""Editing a glossary, and what a session that is being scored feels of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from a2p_engine.bench.clock import WARM_UPS, Clock, Timing
from a2p_engine.bench.glossaries import Glossary, GlossaryMaker
from a2p_engine.bench.stage import Stage, top
from a2p_engine.retriever.glossary_index import GlossaryIndex, Section
from a2p_engine.retriever.spotter import PhoneIndex
from a2p_engine.retriever.term_scorer import Chunk
from a2p_engine.retriever.term_table import TermTable
from a2p_engine.types import Term

TERMS = 1_000
PERIOD_S = 0.5
RUNNING_S = 2.0
LEAST_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Cost of edits; tokens of added terms are given, tokenizing is not part of any figure.

    Attributes:
        added: terms that one edit adds.
        removed: terms that another one removes.
        new_tokens: tokens that all edits together brought to the table.
        add: adding terms, from ``Term`` objects and token ids to the next version.
        remove: removing terms by their texts.
        while_editing: ticks of one session, one after the other, while another thread exchanges
            the added terms for others twice a second.
        undisturbed: the same ticks without that thread, on the same table.
        edits: made by that thread.
    """

    added: int
    removed: int
    new_tokens: int
    add: Timing
    remove: Timing
    while_editing: Timing
    undisturbed: Timing
    edits: int

    @classmethod
    def measure(
        cls,
        stage: Stage,
        maker: GlossaryMaker,
        clock: Clock,
        *,
        frames: int,
        repeat: int,
        seed: int,
    ) -> Edits:
        """Time edits of the stage's glossary; its table grows by what they bring."""
        before = stage.table.size
        count = len(stage.glossary)
        fresh = (maker.make(TERMS, count + n * TERMS) for n in range(WARM_UPS + repeat))
        batches = [Batch.of(glossary) for glossary in fresh]
        add = clock.time(lambda n: stage.index.edit(add=batches[n].section(stage)), repeat)
        chosen = np.random.default_rng(seed).permutation(count)[:TERMS].tolist()
        texts = [stage.glossary.texts[place] for place in chosen]
        remove = clock.time(lambda _: stage.index.edit(remove=texts), repeat)
        session = _Session(stage, frames)
        while_editing, edits = _disturbed(session, batches, clock)
        undisturbed = session.run(clock)
        return cls(
            added=TERMS,
            removed=len(texts),
            new_tokens=stage.table.size - before,
            add=add,
            remove=remove,
            while_editing=while_editing,
            undisturbed=undisturbed,
            edits=edits,
        )


@dataclass(frozen=True)
class Batch:
    """Terms to be added, and their tokens."""

    terms: Sequence[Term]
    tokens: Sequence[Sequence[Sequence[int]]]

    @classmethod
    def of(cls, glossary: Glossary) -> Batch:
        """As a tokenizer would hand them over."""
        return cls(glossary.terms(), glossary.tokens())

    def section(self, stage: Stage) -> Section:
        """Index them; this is what an edit pays for."""
        terms = TermTable.of(self.terms)
        return Section.of(terms, self.tokens, PhoneIndex((), ()), stage.table)


class _Session:
    """One session that hears new frames all the time, with the newest version of its glossary."""

    def __init__(self, stage: Stage, frames: int) -> None:
        self.stage = stage
        self.index: GlossaryIndex = stage.index
        self._frames = frames
        self._hearing = stage.heard()

    def tick(self, number: int) -> None:
        index = self.index  # before its tokens are scored: they are in the table by now
        heard = self.stage.frames(number * self._frames, self._frames)
        gain = self.stage.scorer.hear([Chunk(self._hearing, heard, self._frames)])
        top(index.scores(gain))
        del self._hearing.keys[1:], self._hearing.values[1:]

    def run(self, clock: Clock) -> Timing:
        """Tick after tick, for some seconds."""
        self.tick(0)
        end = time.perf_counter() + RUNNING_S
        runs: list[tuple[float, float]] = []
        while len(runs) < LEAST_TICKS or time.perf_counter() < end:
            runs.append(clock.once(partial(self.tick, len(runs))))
        return Timing.of(runs)

    def keep_editing(self, batches: Iterable[Batch], stop: threading.Event) -> int:
        """Put other terms in the place of those added before, until told to stop."""
        edits, previous = 0, list[str]()
        for batch in itertools.cycle(batches):
            if stop.wait(PERIOD_S):
                break
            self.index = self.index.edit(add=batch.section(self.stage), remove=previous)
            previous = [term.text for term in batch.terms]
            edits += 1
        return edits


def _disturbed(session: _Session, batches: Sequence[Batch], clock: Clock) -> tuple[Timing, int]:
    stop = threading.Event()
    with ThreadPoolExecutor(1, "editor") as editor:
        edits = editor.submit(session.keep_editing, batches, stop)
        try:
            timing = session.run(clock)
        finally:
            stop.set()
        return timing, edits.result()
