"""``a2p eval published`` and ``a2p frames``: published data and configurations as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli import common
from streaming.cli.data import ProcessesOption
from streaming.cli.evaluation import eval_app, progress
from streaming.cli.evaluation_options import AsJson, DumpOption, LimitOption
from streaming.cli.evaluation_tables import interval
from streaming.cli.training import ModelOption, OutOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from a2p_engine.evaluation.published_run import Report
    from a2p_engine.published.data import Moved

MovedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--moved",
        metavar="OLD=NEW",
        help="Files whose path begins with OLD lie under NEW. Repeatable.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(frames)


def frames(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Published set, a JSON list.")],
    out: OutOption,
    language: Annotated[
        Literal["en", "zh"], typer.Option("--language", "-l", help="Of text and hints.")
    ],
    moved: MovedOption = None,
    storage: Annotated[
        Literal["float16", "int8"], typer.Option(help="'int8' takes half the disk.")
    ] = "float16",
    limit: LimitOption = None,
    model: ModelOption = "whisper-base",
    device: common.DeviceOption = "auto",
    processes: ProcessesOption = 1,
) -> None:
    """Encode a published set for `a2p train`, with its terms; goes on where it was left."""
    from a2p_engine.published import frames as framing

    plan = framing.FramesPlan(
        data=data,
        language=language,
        model=model,
        device=device,
        storage=storage,
        moved=_moves(moved),
        limit=limit,
    )
    common.note(f"{framing.make_frames(plan, out, processes)} new shards in {out}")


@eval_app.command("published")
def published(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Published JSON configuration of inference.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Set.", show_default="the configuration's")
    ] = None,
    terms: Annotated[
        Path | None, typer.Option(help="Term bank.", show_default="the configuration's")
    ] = None,
    retriever: Annotated[
        Path | None,
        typer.Option(
            help="Directory with a head, or a checkpoint.", show_default="the configuration's"
        ),
    ] = None,
    speech_llm: Annotated[
        str | None,
        typer.Option(help="Model that writes the texts.", show_default="the configuration's"),
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="What it is told: none, retrieved, said; '' measures retrieval.")
    ] = "none,retrieved",
    moved: MovedOption = None,
    as_json: AsJson = False,
    dump: DumpOption = None,
    limit: LimitOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Evaluate as published: recall, term accuracy, WER or CER, BLEU; and as we count."""
    from a2p_engine.evaluation import published_request, published_run
    from a2p_engine.published.config import read_config

    request = published_request.Request(
        config=read_config(config),
        data=data,
        bank=terms,
        retriever=retriever,
        speech_llm=speech_llm,
        device=device,
        prompts=published_request.parse_prompts(prompts),
        moved=_moves(moved),
        limit=limit,
        dump=dump,
    )
    evaluation = published_run.load(request)
    with progress(len(evaluation.entries), "utterances") as advance:
        report = evaluation.run(advance)
    if as_json:
        print(json.dumps(report.json(), ensure_ascii=False, indent=2))
    else:
        _show(report)


def _moves(given: Iterable[str] | None) -> tuple[Moved, ...]:
    """Pairs of the option.

    Raises:
        BadParameter: one is no pair.
    """
    from a2p_engine.published.data import Moved

    pairs = [text.partition("=") for text in given or ()]
    if bad := [old for old, sign, new in pairs if not (old and sign and new)]:
        raise typer.BadParameter(f"--moved {bad[0]}: takes OLD=NEW")
    return tuple(Moved(old, new) for old, _, new in pairs)


def _show(report: Report) -> None:
    said = report.settings
    print(
        f"{said['utterances']} utterances, {said['terms_said']} terms said, "
        f"{said['terms_not_in_bank']} of them not among the {said['bank']:,} of the bank; "
        "95 % intervals in brackets"
    )
    columns = ("k", "recall@k, published", "recall@k", "precision@k")
    rows = [
        (one.depth, _share(one.published), interval(one.recall), interval(one.precision))
        for one in report.retrieval
    ]
    common.show_table(columns, rows)
    if report.writing:
        print()
        show = _show_translations if said["task"] == "st" else _show_transcripts
        show(report)


def _show_translations(report: Report) -> None:
    columns = ("told", "term accuracy, published", "BLEU, published", "terms found", "BLEU", "chrF")
    rows = [
        (
            one.prompt,
            _share(one.term_accuracy),
            _share(one.sentence_bleu, 2),
            interval(one.terms_found),
            _share(one.corpus_bleu, 2),
            _share(one.chrf, 2),
        )
        for one in report.writing
    ]
    common.show_table(columns, rows)


def _show_transcripts(report: Report) -> None:
    rate = "CER" if report.settings["target"] == "zh" else "WER"
    columns = (
        "told", "term accuracy, published", f"{rate} %, published", "terms found",
        f"{rate} %", f"U-{rate} %", f"B-{rate} %",
    )  # fmt: skip
    rows = [
        (
            one.prompt,
            _share(one.term_accuracy),
            _share(one.error_rate, 2, 100),
            interval(one.terms_found),
            *(
                "-" if figure is None else interval(figure, 2, 100)
                for figure in (one.errors, one.other_errors, one.biased_errors)
            ),
        )
        for one in report.writing
    ]
    common.show_table(columns, rows)


def _share(value: float | None, digits: int = 3, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"
