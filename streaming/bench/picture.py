"""How a server degrades with the number of sessions, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from a2p_engine.errors import InputError
from streaming.bench.levels import Level

LINES = (
    ("final_s", "p95", "final, 95th percentile", "C3", "-"),
    ("final_s", "p50", "final, median", "C3", "--"),
    ("first_partial_s", "p95", "first partial, 95th percentile", "C0", "-"),
    ("first_partial_s", "p50", "first partial, median", "C0", "--"),
)


def draw(levels: Sequence[Level], bound_s: float, title: str, path: Path) -> None:
    """Write a PNG: latencies above, partials and CPU below.

    Raises:
        InputError: the picture cannot be written.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    latency, rate = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    _latencies(latency, levels, bound_s)
    latency.set_title(title)
    _rates(rate, levels)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _latencies(axes: Axes, levels: Sequence[Level], bound_s: float) -> None:
    for name, part, label, color, style in LINES:
        found = [(each.sessions, getattr(each, name)) for each in levels]
        points = [(sessions, values[part]) for sessions, values in found if values]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=color, marker="o", label=label)
    axes.axhline(bound_s, color="k", linewidth=0.8, linestyle=":", label=f"bound {bound_s:g} s")
    axes.set(ylabel="seconds", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _rates(axes: Axes, levels: Sequence[Level]) -> None:
    sessions = [each.sessions for each in levels]
    partials = [each.partials_per_s or 0.0 for each in levels]
    axes.plot(sessions, partials, "o-", color="C0", label="partials per second of speech")
    axes.set(xlabel="sessions", ylabel="partials/s", ylim=(0, None))
    axes.grid(alpha=0.3)
    measured = [
        (each.sessions, each.cpu_percent) for each in levels if each.cpu_percent is not None
    ]
    if measured:
        cpu = axes.twinx()
        cpu.plot(*zip(*measured, strict=True), "s--", color="C2")
        cpu.set(ylabel="CPU of the server, % of a core", ylim=(0, None))
    axes.legend(fontsize="small", loc="lower left")
