"""The measurements of ``a2p bench scorer``, one after the other."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from a2p_engine.bench import dense, machine, presets
from a2p_engine.bench.accuracy import Accuracy
from a2p_engine.bench.clock import Clock, Timing
from a2p_engine.bench.cost import step_cost
from a2p_engine.bench.edits import Edits
from a2p_engine.bench.files import IndexFile
from a2p_engine.bench.glossaries import MOST_TERMS, Glossary, GlossaryMaker
from a2p_engine.bench.machine import Machine
from a2p_engine.bench.presets import FRAMES_PER_S, Preset
from a2p_engine.bench.rates import DTYPE, Rates
from a2p_engine.bench.report import GlossaryReport, Memory, Report, Step
from a2p_engine.bench.stage import Stage, Ticks, session_bytes, stage_bytes
from a2p_engine.bench.synthetic import Model, model_bytes
from a2p_engine.errors import InputError

HALF_SECOND = 13  # frames
WINDOW_FRAMES = 30 * FRAMES_PER_S
# Name, newly settled frames, provisional frames after them: a server looks one second ahead.
TICKS = (
    ("tick 0.5 s", HALF_SECOND, 0),
    ("tick 1 s", FRAMES_PER_S, 0),
    ("live tick 0.5 s", HALF_SECOND, FRAMES_PER_S),
)
TICK = TICKS[0][0]  # the one that pictures and ratios are of
RESCORE = "rescore 30 s"

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        preset: name of a model's shape.
        terms: sizes of glossaries.
        sessions: numbers of sessions scored together.
        device: cpu, cuda or auto.
        dense: when the dense form is timed as well.
        threads: of torch and of the CPU kernels; None takes all cores.
        repeat: runs per figure.
        seed: of everything random.
    """

    preset: str = "whisper-base"
    terms: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)
    sessions: Sequence[int] = (1, 8, 64)
    device: str = "auto"
    dense: dense.When = "auto"
    threads: int | None = None
    repeat: int = 30
    seed: int = 1

    def __post_init__(self) -> None:
        presets.find(self.preset)
        for name, numbers, most in (
            ("terms", self.terms, MOST_TERMS),
            ("sessions", self.sessions, 10_000),
        ):
            wrong = [number for number in numbers if not 1 <= number <= most]
            if wrong or not numbers:
                raise InputError(f"--{name} {wrong[0] if wrong else ''}: takes 1 to {most:,}")


def run(
    options: Options,
    progress: Progress = lambda text: None,
    available: Callable[[torch.device], int] = machine.available_bytes,
) -> Report:
    """Measure; what does not fit into memory is left out and named in the report.

    Sets the number of threads that torch uses in this process.

    Args:
        options: what is measured.
        progress: told what comes next.
        available: bytes that a device has free.

    Raises:
        InputError: there is no such device, or not even the model fits into memory.
    """
    device = machine.find_device(options.device)
    torch.set_num_threads(options.threads or machine.cores())
    with torch.no_grad():
        return _Run(options, device, progress, available).report()


class _Run:
    """State of one run of the benchmark."""

    def __init__(
        self,
        options: Options,
        device: torch.device,
        progress: Progress,
        available: Callable[[torch.device], int],
    ) -> None:
        self._options = options
        self._device = device
        self._progress = progress
        self._available = available
        self._skipped: list[str] = []
        preset = presets.find(options.preset)
        self._require(preset)
        progress("rates of the device")
        self._clock = Clock(device)
        self._rates = Rates.measure(self._clock)
        progress("model")
        self._model = Model.random(preset, device, options.seed)
        self._maker = GlossaryMaker(preset.vocabulary, options.seed)

    def report(self) -> Report:
        """Measure all glossaries; the dense form, which takes most memory, comes last."""
        glossaries = [
            measured
            for terms in sorted(set(self._options.terms))
            if (measured := self._glossary(terms)) is not None
        ]
        return Report(
            benchmark="scorer",
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            options=vars(self._options),
            preset=self._model.preset,
            machine=Machine.of(self._device),
            rates=self._rates,
            glossaries=glossaries,
            dense=[self._dense(glossary) for glossary in glossaries],
            skipped=self._skipped,
        )

    def _require(self, preset: Preset) -> None:
        needed, free = model_bytes(preset), self._available(self._device)
        if needed > free:
            raise InputError(
                f"preset {preset.name} takes {_gb(needed)} to begin with, {_gb(free)} are free"
            )

    def _glossary(self, terms: int) -> GlossaryReport | None:
        glossary = self._maker.make(terms)
        preset = self._model.preset
        tokens = len(glossary.distinct)
        size = f"{terms:,} terms ({tokens:,} tokens)"
        query_bytes = DTYPE[self._device.type].itemsize
        if not self._fits(stage_bytes(preset, glossary, query_bytes), size):
            return None
        self._progress(size)
        machine.peak_device_bytes(self._device)
        stage = Stage.of(self._model, glossary)
        steps = [
            step
            for sessions in sorted(set(self._options.sessions))
            if self._fits(
                (sessions + 1) * session_bytes(preset, glossary, HALF_SECOND + FRAMES_PER_S),
                f"{size}, sessions: {sessions}",
            )
            for step in self._ticks(stage, sessions)
        ]
        steps.append(self._rescore(stage))
        memory = self._memory(stage)
        self._progress(f"{size}: accuracy and edits")
        return GlossaryReport(
            terms=terms,
            tokens=tokens,
            tokens_per_term=float(glossary.lengths.mean()),
            steps=steps,
            memory=memory,
            accuracy=Accuracy.measure(stage, self._options.seed),
            file=IndexFile.measure(stage),
            edits=Edits.measure(
                stage,
                self._maker,
                self._clock,
                frames=HALF_SECOND,
                repeat=self._options.repeat,
                seed=self._options.seed,
            ),
        )

    def _fits(self, needed: int, what: str) -> bool:
        free = self._available(self._device)
        if needed > free:
            self._skipped.append(f"{what}: needs {_gb(needed)}, {_gb(free)} are free")
        return needed <= free

    def _ticks(self, stage: Stage, sessions: int) -> Iterator[Step]:
        for name, settled, provisional in TICKS:
            self._progress(f"{len(stage.glossary):,} terms, sessions: {sessions}, {name}")
            ticks = Ticks(stage, sessions=sessions, settled=settled, provisional=provisional)
            timing = self._clock.time(ticks, self._options.repeat, after=ticks.forget)
            yield self._step(stage, name, sessions, settled, provisional, timing)

    def _rescore(self, stage: Stage) -> Step:
        self._progress(f"{len(stage.glossary):,} terms, {RESCORE}")
        timing = self._clock.time(
            lambda number: stage.rescore(WINDOW_FRAMES, number), self._options.repeat
        )
        return self._step(stage, RESCORE, 1, WINDOW_FRAMES, 0, timing)

    def _step(
        self,
        stage: Stage,
        name: str,
        sessions: int,
        settled: int,
        provisional: int,
        timing: Timing,
    ) -> Step:
        cost = step_cost(
            self._model.preset,
            tokens=len(stage.glossary.distinct),
            query_bytes=stage.table.queries.element_size(),
            entries=len(stage.glossary.token_ids),
            terms=len(stage.glossary),
            sessions=sessions,
            frames=settled + provisional,
        )
        return Step.of(
            name,
            sessions=sessions,
            settled=settled,
            provisional=provisional,
            timing=timing,
            cost=cost,
            rates=self._rates,
        )

    def _memory(self, stage: Stage) -> Memory:
        state = stage.scorer.start().state
        return Memory(
            token_table_bytes=stage.table.nbytes,
            glossary_bytes=stage.index.nbytes,
            session_bytes=state.lse.nbytes + state.mean.nbytes,
            peak_resident_bytes=machine.peak_resident_bytes(),
            peak_device_bytes=machine.peak_device_bytes(self._device),
        )

    def _dense(self, measured: GlossaryReport) -> dense.Dense:
        glossary: Glossary = self._maker.make(measured.terms)
        self._progress(f"{measured.terms:,} terms, dense form")
        found = dense.measure(
            self._model, glossary, WINDOW_FRAMES, self._clock, self._rates, self._options.dense
        )
        if found.timing is None:
            return found
        rescore, tick = measured.step(RESCORE), measured.step(TICK)
        return replace(
            found,
            to_rescore=found.timing.p50_ms / rescore.timing.p50_ms if rescore else None,
            to_tick=found.timing.p50_ms / tick.timing.p50_ms if tick else None,
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
