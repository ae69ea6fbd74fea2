"""Results of ``a2p bench scorer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from a2p_engine.bench.accuracy import Accuracy
from a2p_engine.bench.clock import Timing
from a2p_engine.bench.cost import Cost
from a2p_engine.bench.dense import Dense
from a2p_engine.bench.edits import Edits
from a2p_engine.bench.files import IndexFile
from a2p_engine.bench.machine import Machine
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.rates import Rates


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of step, for all sessions together.

    Attributes:
        name: what is done.
        sessions: B.
        frames: new ones of each session.
        settled_frames: how many of them are settled; the others are provisional.
        timing: as measured.
        cost: the least that has to be done.
        floor_ms: how long that takes at the device's rates.
        share_of_floor: floor over median time; above 1 only where data stays in a cache.
        share_of_copy: achieved share of the copy rate.
        share_of_matmul: achieved share of the rate of matrix products.
    """

    name: str
    sessions: int
    frames: int
    settled_frames: int
    timing: Timing
    cost: Cost
    floor_ms: float
    share_of_floor: float
    share_of_copy: float
    share_of_matmul: float

    @classmethod
    def of(
        cls,
        name: str,
        *,
        sessions: int,
        settled: int,
        provisional: int,
        timing: Timing,
        cost: Cost,
        rates: Rates,
    ) -> Step:
        """Relate a time to what the device can do."""
        seconds = 1e-3 * timing.p50_ms
        floor_ms = cost.floor_ms(rates)
        return cls(
            name=name,
            sessions=sessions,
            frames=settled + provisional,
            settled_frames=settled,
            timing=timing,
            cost=cost,
            floor_ms=floor_ms,
            share_of_floor=floor_ms / timing.p50_ms,
            share_of_copy=cost.bytes / seconds / rates.copy_bytes_per_s,
            share_of_matmul=cost.flop / seconds / rates.matmul_flop_per_s,
        )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes in use.

    Attributes:
        token_table_bytes: queries and priors, shared by all glossaries.
        glossary_bytes: of the index, by what holds them.
        session_bytes: state of one session.
        peak_resident_bytes: most main memory of the process so far.
        peak_device_bytes: most GPU memory in use for this glossary; None on CPU.
    """

    token_table_bytes: int
    glossary_bytes: Mapping[str, int]
    session_bytes: int
    peak_resident_bytes: int
    peak_device_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class GlossaryReport:
    """One glossary.

    Attributes:
        terms: N.
        tokens: V, distinct ones.
        tokens_per_term: on average.
        steps: for each number of sessions.
        memory: with sessions running.
        accuracy: against float64.
        edits: of this glossary.
        file: its index file.
    """

    terms: int
    tokens: int
    tokens_per_term: float
    steps: Sequence[Step]
    memory: Memory
    accuracy: Accuracy
    edits: Edits
    file: IndexFile

    def step(self, name: str, sessions: int = 1) -> Step | None:
        """A step by name; None if it was not measured."""
        found = (s for s in self.steps if s.name == name and s.sessions == sessions)
        return next(found, None)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All of one run.

    Attributes:
        benchmark: which one.
        date: its end, in UTC.
        options: as given.
        preset: shape of the model.
        machine: on which it ran.
        rates: of the device.
        glossaries: in order of size, those that fitted into memory.
        dense: the dense form over the same glossaries.
        skipped: what was left out, and why.
    """

    benchmark: str
    date: str
    options: Mapping[str, Any]
    preset: Preset
    machine: Machine
    rates: Rates
    glossaries: Sequence[GlossaryReport]
    dense: Sequence[Dense]
    skipped: Sequence[str]

    def json(self) -> dict[str, Any]:
        """Everything, as plain objects."""
        return asdict(self)
