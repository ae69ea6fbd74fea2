"""``a2p split``: the parts of a speech LLM that training a retriever needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from streaming.cli.common import note

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # OWNER/NAME

split_app = typer.Typer(no_args_is_help=True, help="Split a speech LLM into what training needs.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(split_app, name="split")


@split_app.callback()
def _group() -> None:
    """Keeps the name of the model in the command while there is one alone."""


@split_app.command("qwen2-audio")
def qwen2_audio(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Directory, or the name of a repository in the hub's cache.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the parts.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite parts that exist.")] = False,
) -> None:
    """Write audio tower, projector and token embeddings as safetensors; no code is run."""
    from a2p_engine.errors import InputError
    from a2p_engine.speech_llm.pretrained import find_pretrained
    from a2p_engine.training import split_qwen2_audio as parts

    directory = Path(checkpoint)
    if not directory.is_dir():
        if not REPOSITORY.fullmatch(checkpoint):
            raise InputError(f"{checkpoint} is neither a directory nor the name of a repository")
        directory = find_pretrained(directory.name, checkpoint)
    for name, count in parts.split(directory, out, overwrite=force).items():
        note(f"{out / name}.safetensors: {count / 1e6:,.1f} M numbers")
    for name in parts.COPIED:
        if not (out / name).exists():
            note(f"{out / name} is missing: frames and training need Qwen2-Audio's")
