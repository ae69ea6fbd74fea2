"""Loss and quality over steps as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw(
    losses: Sequence[tuple[int, float]],
    qualities: Sequence[tuple[int, float]],
    *,
    quality_name: str,
    path: Path,
) -> None:
    """Write a PNG with the loss, its running mean and the quality on development data.

    Args:
        losses: (step, loss).
        qualities: (step, quality).
        quality_name: what the quality is.
        path: the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    if losses:
        steps, values = np.array([s for s, _ in losses]), np.array([v for _, v in losses])
        above.plot(steps, values, linewidth=0.5, alpha=0.4)
        window = max(1, len(values) // 50)
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        above.plot(steps[window - 1 :], mean)
        above.set_yscale("log")
    above.set_ylabel("loss")
    below.plot([s for s, _ in qualities], [q for _, q in qualities], marker="o", markersize=3)
    below.set_ylabel(quality_name)
    below.set_xlabel("step")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
