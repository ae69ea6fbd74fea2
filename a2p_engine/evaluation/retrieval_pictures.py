"""Pictures of a search, each with the figures it is drawn from as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from a2p_engine.errors import InputError
from a2p_engine.evaluation.retrieval_report import Recall, Result, binned, precision_recall

_DEPTHS = (1, 5, 10, 50)
_STAGE_DEPTH = 10
_MOST_LINES = 4


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write every picture for which there is something to show; returns the PNG files.

    Raises:
        InputError: the folder cannot be written.
    """
    quiet = [result for result in results if result.condition == results[0].condition]
    few = quiet[:: -(-len(quiet) // _MOST_LINES)]
    largest = max(result.size for result in results)
    pictures = {
        "recall_by_size": (_by_size(quiet), _draw_recall, len(quiet) > 1),
        "recall_by_snr": (_by_snr(results), _draw_recall, _noisy(results)),
        "reliability": (_reliability(few), _draw_reliability, True),
        "precision_recall": (_tradeoff(few), _draw_tradeoff, True),
        "recall_by_kind": (_by_kind(quiet, largest), _draw_kinds, True),
    }
    chosen = {name: (data, paint) for name, (data, paint, wanted) in pictures.items() if wanted}
    return [_write(folder / name, data, paint) for name, (data, paint) in chosen.items()]


def _noisy(results: Sequence[Result]) -> bool:
    return len({result.condition for result in results}) > 1


def _points(recall: Sequence[Recall], depth: int) -> dict[str, list[float | None]]:
    at = [one.at[depth] for one in recall]
    return {
        "value": [e.value for e in at],
        "low": [e.low for e in at],
        "high": [e.high for e in at],
    }


def _by_size(results: Sequence[Result]) -> dict[str, Any]:
    """Recall over the number of terms, of the whole and of each stage."""
    lines = {f"@{k}": _points([r.recall["all"] for r in results], k) for k in _DEPTHS}
    for stage in results[0].stages:
        name = f"@{_STAGE_DEPTH}, {stage.replace('_', ' ')}"
        lines[name] = _points([r.stages[stage] for r in results], _STAGE_DEPTH)
    sizes = [result.size for result in results]
    return {"x": sizes, "x_label": "terms in the glossary", "log": True, "lines": lines}


def _by_snr(results: Sequence[Result]) -> dict[str, Any]:
    """Recall@10 over the signal-to-noise ratio, one line for each size."""
    conditions = list(dict.fromkeys(result.condition for result in results))
    lines = {}
    for size in sorted({result.size for result in results}):
        mine = {r.condition: r.recall["all"] for r in results if r.size == size}
        lines[f"@10, {size:,} terms"] = _points([mine[name] for name in conditions], 10)
    return {"x": conditions, "x_label": "speech over noise, dB", "log": False, "lines": lines}


def _by_kind(results: Sequence[Result], size: int) -> dict[str, Any]:
    (result,) = [result for result in results if result.size == size]
    kinds = {f"{kind.replace('_', ' ')} ({r.terms})": r for kind, r in result.recall.items()}
    return {
        "kinds": list(kinds),
        "title": f"{size:,} terms",
        "lines": {f"@{k}": _points(list(kinds.values()), k) for k in (1, 10)},
    }


def _reliability(results: Sequence[Result]) -> dict[str, Any]:
    """Share of spoken candidates over their mean probability, by size."""
    lines = {}
    for result in results:
        number, probability, gap = binned([offer for one in result.considered for offer in one])
        filled = number > 0
        lines[f"{result.size:,} terms"] = {
            "probability": (probability[filled] / number[filled]).tolist(),
            "spoken": ((probability - gap)[filled] / number[filled]).tolist(),
            "number": number[filled].tolist(),
        }
    return {"lines": lines}


def _tradeoff(results: Sequence[Result]) -> dict[str, Any]:
    """Precision over recall as the threshold goes down, and the named thresholds."""
    lines = {}
    for result in results:
        found = [offer for one in result.considered for offer in one]
        threshold, precision, recall = precision_recall(found, result.recall["all"].terms)
        lines[f"{result.size:,} terms"] = {
            "threshold": threshold.tolist(),
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "operating_points": {
                name: {"recall": offers.recall.value, "precision": offers.precision.value}
                for name, offers in result.offers.items()
            },
        }
    return {"lines": lines}


def _draw_recall(axes: Axes, data: dict[str, Any]) -> None:
    places = data["x"] if data["log"] else range(len(data["x"]))
    for name, line in data["lines"].items():
        style = "--" if "," in name else "-"
        (drawn,) = axes.plot(places, line["value"], f"o{style}", markersize=4, label=name)
        if None not in line["low"]:
            axes.fill_between(
                places, line["low"], line["high"], color=drawn.get_color(), alpha=0.12, linewidth=0
            )
    if data["log"]:
        axes.set_xscale("log")
    axes.set_xticks(list(places), [f"{x:,}" if data["log"] else x for x in data["x"]])
    axes.minorticks_off()
    axes.set(xlabel=data["x_label"], ylabel="recall (band: 95 % interval)", ylim=(None, 1.005))


def _draw_kinds(axes: Axes, data: dict[str, Any]) -> None:
    kinds = range(len(data["kinds"]))
    for shift, (name, line) in zip((-0.2, 0.2), data["lines"].items(), strict=True):
        values = [value or 0.0 for value in line["value"]]
        low, high = (
            [abs(value - (edge if edge is not None else value)) for value, edge in pairs]
            for pairs in (zip(values, line[side], strict=True) for side in ("low", "high"))
        )
        axes.bar([k + shift for k in kinds], values, 0.38, yerr=[low, high], label=name, alpha=0.8)
    axes.set_xticks(list(kinds), data["kinds"], rotation=20, ha="right", fontsize="small")
    axes.set(ylabel="recall", ylim=(0, 1.02), title=data["title"])


def _draw_reliability(axes: Axes, data: dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, line in data["lines"].items():
        axes.plot(line["probability"], line["spoken"], "o-", markersize=4, label=name)
    axes.set(xlabel="probability said to be", ylabel="share that was spoken", aspect="equal")


def _draw_tradeoff(axes: Axes, data: dict[str, Any]) -> None:
    for name, line in data["lines"].items():
        (drawn,) = axes.plot(line["recall"], line["precision"], linewidth=1.2, label=name)
        for name, place in line["operating_points"].items():
            at = (place["recall"], place["precision"])
            if None not in at:
                axes.plot(*at, "o", color=drawn.get_color())
                axes.annotate(
                    name, at, fontsize="x-small", textcoords="offset points", xytext=(5, 4)
                )
    axes.set(xlabel="recall of what is offered", ylabel="precision", ylim=(0, 1.02))


def _write(path: Path, data: dict[str, Any], paint: Callable[[Axes, dict[str, Any]], None]) -> Path:
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    paint(axes, data)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    picture = path.with_suffix(".png")
    try:
        path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        figure.savefig(picture, dpi=120, format="png")
    except OSError as error:
        raise InputError(f"cannot write {picture}: {error.strerror}") from error
    return picture
