"""``a2p convert``: published checkpoints into files of our own form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli.common import note

if TYPE_CHECKING:
    from a2p_engine.retriever.checkpoints import Converted

convert_app = typer.Typer(no_args_is_help=True, help="Convert published checkpoints.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(convert_app, name="convert")


@convert_app.command()
def retriever(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="File that torch.save wrote.")
    ],
    config: Annotated[Path, typer.Option(help="JSON configuration published with it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Safetensors file to write.")],
    dtype: Annotated[
        Literal["keep", "float32", "bfloat16", "float16"],
        typer.Option(help="Kind of numbers written; 'keep' leaves them as they are."),
    ] = "keep",
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the output if it exists.")
    ] = False,
) -> None:
    """Convert a checkpoint of the A2P head; no code in it is run.

    It must hold the tensors of the head, as configured, and no others.
    """
    import torch

    from a2p_engine.retriever import checkpoints

    kept = None if dtype == "keep" else getattr(torch, dtype)
    written = checkpoints.convert(checkpoint, config, out, dtype=kept, overwrite=force)
    note(f"{out}: {_summary(written)}")


def _summary(written: Converted) -> str:
    config = written.config
    return ", ".join(
        (
            f"{written.parameters:,} parameters",
            f"width {config.width}",
            f"{config.heads} heads",
            f"merge {config.merge} {'with' if config.fc else 'without'} audio_word_fc",
            " and ".join(written.dtypes),
            f"{written.size_bytes / 1e6:.1f} MB",
        )
    )
