"""Time per tick over glossary size as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from a2p_engine.bench.report import Report
from a2p_engine.errors import InputError


def draw(report: Report, step: str, path: Path) -> None:
    """Write a PNG: one line for each number of sessions, its floor, and the dense form.

    Args:
        report: the results.
        step: name of the step that is drawn.
        path: the picture.

    Raises:
        InputError: the picture cannot be written.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _lines(axes, report, step)
    dense = [(found.terms, found.timing.p50_ms) for found in report.dense if found.timing]
    if dense:
        axes.plot(*zip(*dense, strict=True), "ks:", label="dense form, 1 session")
    axes.set(xscale="log", yscale="log", xlabel="terms", ylabel=f"ms per {step} (median)")
    axes.set_title(f"{report.preset.name} on {report.machine.name}, {report.date[:10]}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _lines(axes: Axes, report: Report, step: str) -> None:
    found = [
        (glossary.terms, measured)
        for glossary in report.glossaries
        for measured in glossary.steps
        if measured.name == step
    ]
    for sessions in sorted({measured.sessions for _, measured in found}):
        mine = [(terms, measured) for terms, measured in found if measured.sessions == sessions]
        terms = [count for count, _ in mine]
        times = [measured.timing.p50_ms for _, measured in mine]
        floors = [measured.floor_ms for _, measured in mine]
        label = f"{sessions} sessions" if sessions > 1 else "1 session"
        (line,) = axes.plot(terms, times, marker="o", label=label)
        axes.plot(
            terms, floors, linestyle="--", linewidth=0.8, color=line.get_color(),
            label=f"floor, {label}",
        )  # fmt: skip
