"""``a2p bench``: how fast the engine and its server are on this machine."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli import bench_openai, bench_peers, bench_serve, common

if TYPE_CHECKING:
    from a2p_engine.bench.report import Report

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    bench_app.command()(bench_serve.serve)
    bench_app.command()(bench_openai.openai)
    bench_app.command()(bench_peers.peers)
    app.add_typer(bench_app, name="bench")


@bench_app.command()
def scorer(
    preset: Annotated[
        str, typer.Option(help="Shape of the model: whisper-base or qwen2-audio.")
    ] = "whisper-base",
    terms: Annotated[
        str, typer.Option(help="Sizes of the glossaries.")
    ] = "1000,10000,100000,1000000",
    sessions: Annotated[str, typer.Option(help="Numbers of sessions scored together.")] = "1,8,64",
    device: common.DeviceOption = "auto",
    dense: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Whether to time the dense form; 'auto' leaves out what takes minutes."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="PNG of time per tick to write.", show_default=False)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on the CPU.", show_default="all cores")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs per figure, less where slow.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Chooses everything random.")] = 1,
) -> None:
    """Time the scoring of synthetic glossaries, beside what the device can do at best.

    No model is needed: head, embeddings, frames and terms are random.
    """
    picture = plotting(plot) if plot is not None else None
    from a2p_engine.bench import scorer as benchmark

    options = benchmark.Options(
        preset=preset,
        terms=counts("terms", terms),
        sessions=counts("sessions", sessions),
        device=device,
        dense=dense,
        threads=threads,
        repeat=repeat,
        seed=seed,
    )
    report = benchmark.run(options, common.note)
    if picture is not None:
        picture.draw(report, benchmark.TICK, plot)
    if as_json:
        print(json.dumps(report.json(), indent=2))
        return
    _show(report)


@bench_app.command()
def live(
    speech_llm: Annotated[
        str, typer.Option(help="Shape of the model: one that `a2p models plan` knows.")
    ] = "qwen2-audio",
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Draw the numbers; the only way there is as yet."),
    ] = False,
    sessions: Annotated[str, typer.Option(help="Numbers of sessions ticking together.")] = "1,8,32",
    device: common.DeviceOption = "auto",
    terms: Annotated[int, typer.Option(min=1, help="Terms of the glossary.")] = 10_000,
    window_s: Annotated[float, typer.Option(help="Audio of each open segment.")] = 10.0,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens written per tick.")] = 16,
    repeat: Annotated[int, typer.Option(min=1, help="Runs per figure, less where slow.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Chooses everything random.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time ticks of a speech LLM at full size: encode, score, prefill, decode.

    The weights are random: how long a tick takes depends on their number alone.
    """
    from a2p_engine.bench import live as benchmark
    from a2p_engine.errors import InputError
    from a2p_engine.speech_llm import shapes

    if not random_weights:
        raise InputError("a2p bench live needs --random-weights: it measures shapes, not quality")
    options = benchmark.Options(
        sessions=counts("sessions", sessions),
        device=device,
        terms=terms,
        window_s=window_s,
        new_tokens=new_tokens,
        repeat=repeat,
        seed=seed,
    )
    report = benchmark.run(shapes.find(speech_llm), options, common.note)
    if as_json:
        print(json.dumps(report.json(), indent=2))
        return
    rows = [
        (row.sessions, *(f"{row.steps[step].p50_ms:.1f}" for step in benchmark.STEPS))
        for row in report.rows
    ]
    title = f"{report.model} on {report.machine.name}, ms (median)"
    common.show_table(("sessions", *benchmark.STEPS), rows, title)
    for line in report.skipped:
        print(f"left out: {line}")


def counts(name: str, text: str) -> tuple[int, ...]:
    """Numbers separated by commas.

    Raises:
        InputError: something else is among them.
    """
    from a2p_engine.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{name} {text}: takes whole numbers separated by commas") from None


def plotting(path: Path, module: str = "a2p_engine.bench.plot") -> ModuleType:
    """What draws; whether it can is known before minutes are spent on measuring.

    Raises:
        InputError: it cannot, or there is no place for the picture.
    """
    from a2p_engine.errors import InputError

    if not path.absolute().parent.is_dir():
        raise InputError(f"cannot write {path}: there is no such directory")
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is missing: pip install 'a2p-live[train]'") from error


def _show(report: Report) -> None:
    from a2p_engine.bench.tables import header, sheets

    print(*header(report), sep="\n")
    for sheet in sheets(report):
        print()
        common.show_table(sheet.columns, sheet.rows, sheet.title)
    for line in report.skipped:
        print(f"left out: {line}")
