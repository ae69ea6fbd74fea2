"""The commands ``train`` and ``calibrate``: a retriever of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming.cli.common import note

if TYPE_CHECKING:
    from a2p_engine.training.config import TrainingConfig

WordsOption = Annotated[
    Path | None, typer.Option(help="File of rare words, one a line.", show_default=False)
]
ModelOption = Annotated[str, typer.Option(help="Model whose encoder makes the frames.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Directory for the results.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(train)
    app.command()(calibrate)


def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="TOML file, as in a2p_engine/training/configs, or a published JSON file.",
        ),
    ],
    data: Annotated[
        list[Path], typer.Option("--data", "-d", help="Directory of training shards. Repeatable.")
    ],
    dev: Annotated[Path, typer.Option(help="Directory of development shards.")],
    out: OutOption,
    rare_words: WordsOption = None,
    phoneme_head: Annotated[
        Path | None,
        typer.Option(help="Trained phoneme head that guides the A2P head.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Trained A2P head to go on from, a safetensors file.", show_default=False
        ),
    ] = None,
    model: ModelOption = "whisper-base",
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint.")] = True,
    stop_after_steps: Annotated[
        int | None, typer.Option(min=1, help="Leave early, as if interrupted.", show_default=False)
    ] = None,
) -> None:
    """Train a head of the retriever; writes checkpoints, curves and the weights."""
    from a2p_engine import models
    from a2p_engine.errors import TrainingError

    try:
        from a2p_engine.training import train as training
    except ModuleNotFoundError as error:
        raise TrainingError(f"{error.name} is missing: pip install 'a2p-live[train]'") from error
    settings: Path | TrainingConfig = config
    if config.suffix == ".json":
        from a2p_engine.published.config import read_config

        settings = read_config(config).training()
    path = training.train(
        config=settings,
        data=data,
        dev=dev,
        out=out,
        model=models.find(model),
        rare_words=rare_words,
        phoneme_head=phoneme_head,
        start=start,
        resume=resume,
        stop_after_steps=stop_after_steps,
    )
    note(f"trained head: {path}")


def calibrate(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="Directory with both trained heads.")
    ],
    manifests: Annotated[
        list[Path],
        typer.Option("--manifest", "-m", help="Development recordings with texts. Repeatable."),
    ],
    rare_words: Annotated[Path, typer.Option(help="File of rare words, one a line.")],
    sizes: Annotated[
        str, typer.Option(help="Sizes of the glossaries searched, separated by commas.")
    ] = "2000,10000,200000",
    seed: Annotated[int, typer.Option(help="Chooses the glossary.")] = 0,
    model: ModelOption = "whisper-base",
) -> None:
    """Fit the probability of a term to development data; writes calibration.json to WEIGHTS."""
    from a2p_engine.errors import InputError
    from a2p_engine.training import calibrate as calibration

    try:
        numbers = [int(size) for size in sizes.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 100:
        raise InputError(f"--sizes {sizes!r}: numbers of at least 100, separated by commas")
    path = calibration.calibrate(
        weights=weights,
        manifests=manifests,
        rare_words=rare_words,
        speech_llm=model,
        sizes=numbers,
        seed=seed,
    )
    note(f"calibration: {path}")
