"""Results of evaluations as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streaming.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2p_engine.evaluation.bootstrap import Estimate
    from a2p_engine.evaluation.compare import Compared
    from a2p_engine.evaluation.prompt_forms import ComparedForms
    from a2p_engine.evaluation.retrieval_report import Recall, Result
    from a2p_engine.evaluation.retrieval_run import Report
    from a2p_engine.evaluation.translation import Translated


def show(summary: dict[str, Any], *, as_json: bool) -> None:
    """One line for each measure."""
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    rows = []
    for name, value in summary.items():
        if isinstance(value, dict):
            value = "  ".join(f"{key} {part}" for key, part in value.items())
        rows.append((name, "-" if value is None else value))
    common.show_table(("measure", "value"), rows)


def show_retrieval(report: Report) -> None:
    """Recall, then what is offered; a row for each glossary, condition and kind."""
    from a2p_engine.evaluation.retrieval_report import DEPTHS

    results = report.results
    print(f"{results[0].recordings} recordings, 95 % intervals in brackets")
    if results[0].missing:
        print(f"{results[0].missing} spoken terms are not in the glossary and count nowhere")
    columns = ("terms", "speech", "of", "n", *(f"recall@{depth}" for depth in DEPTHS))
    common.show_table(columns, [row for result in results for row in _recall_rows(result)])
    print()
    columns = ("terms", "speech", "not among ten", "homophone above", "one phoneme off above")
    rows = [
        (f"{r.size:,}", r.condition, r.missed.terms, r.missed.homophone, r.missed.one_phoneme)
        for r in results
    ]
    common.show_table(columns, rows)
    print()
    columns = (
        "terms", "speech", "threshold", "offered", "precision", "recall", "ECE", "false per hour",
    )  # fmt: skip
    common.show_table(columns, [row for result in results for row in _offer_rows(result)])
    seconds = ", ".join(f"{r.size:,} terms {r.seconds_per_query:.3f} s" for r in results)
    print(f"\nscoring, encoder not counted: {seconds}")


def show_comparison(compared: Compared) -> None:
    """A row for each glossary and system; rates in percent."""
    print(f"{len(compared.settings['recordings'])} recordings, 95 % intervals in brackets")
    columns = (
        "terms", "system", "WER %", "U-WER %", "B-WER %", "of oracle's gain %", "terms found %",
        "false terms", "per hour", "added per hour", "prompted", "s a recording",
    )  # fmt: skip
    rows = [
        (
            f"{result.size:,}",
            result.system.replace("_", " "),
            interval(result.wer, 2, 100),
            interval(result.u_wer, 2, 100),
            interval(result.b_wer, 2, 100),
            interval(result.oracle_share, 0, 100),
            interval(result.term_recall, 1, 100),
            result.false_insertions,
            interval(result.false_per_hour, 1),
            interval(result.added_per_hour, 1),
            result.prompted,
            result.seconds,
        )
        for result in compared.results
    ]
    common.show_table(columns, rows)


def show_forms(compared: ComparedForms) -> None:
    """A row for each form of a prompt; rates in percent."""
    print(f"{len(compared.recordings)} recordings, 95 % intervals in brackets")
    columns = (
        "told", "form", "WER %", "change", "U-WER %", "B-WER %", "false terms", "again",
        "s a recording",
    )  # fmt: skip
    rows = [
        (
            result.form.told.replace("_", " "),
            result.form.name,
            interval(result.wer, 2, 100),
            interval(result.wer_change, 2, 100),
            interval(result.u_wer, 2, 100),
            interval(result.b_wer, 2, 100),
            result.false_insertions,
            result.again,
            result.seconds,
        )
        for result in compared.results
    ]
    common.show_table(columns, rows)


def show_translations(found: Sequence[Translated]) -> None:
    """A row for each system."""
    print(f"{len(found[0].texts)} recordings, {found[0].signature}")
    rows = [
        (
            result.system,
            f"{result.bleu:.1f}",
            f"{result.chrf:.1f}",
            "-" if result.term_accuracy is None else f"{100 * result.term_accuracy:.1f}",
            f"{result.written} of {result.targets}",
        )
        for result in found
    ]
    common.show_table(("system", "BLEU", "chrF2", "term accuracy %", "terms"), rows)


def _recall_rows(result: Result) -> list[tuple[object, ...]]:
    def row(name: str, recall: Recall) -> tuple[object, ...]:
        figures = (interval(figure) for figure in recall.at.values())
        return (f"{result.size:,}", result.condition, name, recall.terms, *figures)

    rows = [row(kind.replace("_", " "), recall) for kind, recall in result.recall.items()]
    stages = [(f"{stage.replace('_', ' ')} alone", r) for stage, r in result.stages.items()]
    return [*rows, *(row(name, recall) for name, recall in stages)]


def _offer_rows(result: Result) -> list[tuple[object, ...]]:
    return [
        (
            f"{result.size:,}",
            result.condition,
            f"{name} {offers.threshold:.2f}",
            interval(offers.per_recording, 1),
            interval(offers.precision),
            interval(offers.recall),
            interval(offers.calibration_error),
            interval(offers.false_per_hour, 1),
        )
        for name, offers in result.offers.items()
    ]


def interval(figure: Estimate, digits: int = 3, scale: float = 1.0) -> str:
    """A figure with its interval, or a dash."""
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{scale * figure.value:.{digits}f}"
    low, high = scale * figure.low, scale * figure.high
    return f"{scale * figure.value:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
