"""Results of ``a2p bench scorer`` as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from a2p_engine.bench.dense import Dense
from a2p_engine.bench.report import GlossaryReport, Report


class Sheet(NamedTuple):
    """One table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def header(report: Report) -> list[str]:
    """What was measured, where and when."""
    preset, machine, rates = report.preset, report.machine, report.rates
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return [
        f"{preset.name}: width {preset.width}, {preset.heads} heads, "
        f"vocabulary {preset.vocabulary:,}; {report.date}",
        f"{machine.device}: {machine.name}, {_size(machine.memory_bytes)}; {machine.cores} cores, "
        f"{machine.threads} threads; {versions}",
        f"copy {rates.copy_bytes_per_s / 1e9:.1f} GB/s (read and written), matrix product "
        f"{rates.matmul_flop_per_s / 1e12:.3g} TFLOP/s ({rates.matmul_dtype})",
    ]


def sheets(report: Report) -> Iterator[Sheet]:
    """All tables."""
    yield _steps(report.glossaries)
    yield _dense(report.dense)
    yield _edits(report.glossaries)
    yield _files(report.glossaries)
    yield _memory(report.glossaries)
    yield _accuracy(report.glossaries)


def _steps(glossaries: Sequence[GlossaryReport]) -> Sheet:
    columns = ("terms", "tokens", "sessions", "step", "p50 ms", "p95 ms", "runs", "floor ms")
    rows = [
        (
            f"{glossary.terms:,}",
            f"{glossary.tokens:,}",
            str(step.sessions),
            step.name,
            _number(step.timing.p50_ms),
            _number(step.timing.p95_ms),
            str(step.timing.runs),
            _number(step.floor_ms),
            f"{step.share_of_floor:.0%}",
            f"{step.share_of_copy:.0%}",
            f"{step.share_of_matmul:.0%}",
            _size(step.cost.bytes),
            f"{step.cost.flop / 1e9:,.2f}",
        )
        for glossary in glossaries
        for step in glossary.steps
    ]
    shares = ("of floor", "of copy", "of matmul", "bytes", "GFLOP")
    return Sheet("Steps, all sessions together", columns + shares, rows)


def _dense(found: Sequence[Dense]) -> Sheet:
    columns = ("terms", "padded to", "TFLOP", "memory", "p50 ms", "to rescore", "to tick 0.5 s")
    rows = [
        (
            f"{dense.terms:,}",
            f"{dense.longest} tokens",
            f"{dense.flop / 1e12:.3g}",
            _size(dense.bytes),
            _number(dense.timing.p50_ms) if dense.timing else "-",
            _ratio(dense.to_rescore),
            _ratio(dense.to_tick),
            f"left out: {dense.reason}" if dense.reason else "",
        )
        for dense in found
    ]
    return Sheet("Dense form, 30 s window, one session", (*columns, ""), rows)


def _edits(glossaries: Sequence[GlossaryReport]) -> Sheet:
    columns = ("terms", "add", "p50 ms", "p95 ms", "remove", "p50 ms", "p95 ms", "new tokens")
    ticks = (
        "edits meanwhile",
        "tick p50 ms",
        "p95 ms",
        "max ms",
        "undisturbed p50 ms",
        "p95 ms",
        "max ms",
    )
    rows = [
        (
            f"{glossary.terms:,}",
            f"{edits.added:,}",
            _number(edits.add.p50_ms),
            _number(edits.add.p95_ms),
            f"{edits.removed:,}",
            _number(edits.remove.p50_ms),
            _number(edits.remove.p95_ms),
            f"{edits.new_tokens:,}",
            str(edits.edits),
            *(
                _number(ms)
                for timing in (edits.while_editing, edits.undisturbed)
                for ms in (timing.p50_ms, timing.p95_ms, timing.max_ms)
            ),
        )
        for glossary in glossaries
        for edits in (glossary.edits,)
    ]
    title = "Edits, without tokenizing; ticks of 0.5 s of one session meanwhile"
    return Sheet(title, columns + ticks, rows)


def _memory(glossaries: Sequence[GlossaryReport]) -> Sheet:
    columns = ("terms", "tokens", "token table", "glossary", "session", "peak resident")
    rows = [
        (
            f"{glossary.terms:,}",
            f"{glossary.tokens:,}",
            _size(memory.token_table_bytes),
            _size(sum(memory.glossary_bytes.values())),
            _size(memory.session_bytes),
            _size(memory.peak_resident_bytes),
            "-" if memory.peak_device_bytes is None else _size(memory.peak_device_bytes),
        )
        for glossary in glossaries
        for memory in (glossary.memory,)
    ]
    return Sheet("Memory", (*columns, "peak GPU"), rows)


def _files(glossaries: Sequence[GlossaryReport]) -> Sheet:
    columns = ("terms", "file", "save ms", "load ms", "queries of its tokens ms")
    rows = [
        (
            f"{glossary.terms:,}",
            _size(file.bytes),
            *(_number(ms) for ms in (file.save_ms, file.load_ms, file.fill_ms)),
        )
        for glossary in glossaries
        for file in (glossary.file,)
    ]
    return Sheet("Index files", columns, rows)


def _accuracy(glossaries: Sequence[GlossaryReport]) -> Sheet:
    columns = ("terms", "compared", "spread", "score", "log-probability", "same top 10")
    rows = [
        (
            f"{glossary.terms:,}",
            f"{accuracy.terms:,}",
            f"{accuracy.spread:.1e}",
            f"{accuracy.score:.1e}",
            f"{accuracy.log_prob:.1e}",
            f"{accuracy.same_top:.0%}",
        )
        for glossary in glossaries
        for accuracy in (glossary.accuracy,)
    ]
    return Sheet("Largest differences from float64", columns, rows)


def _number(value: float) -> str:
    """Three digits that count, never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)}x"


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
