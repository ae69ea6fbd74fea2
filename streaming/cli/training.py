"""The commands ``synthesize``, ``train`` and ``calibrate``: a retriever of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from streaming.cli.common import note

WordsOption = Annotated[
    Path | None, typer.Option(help="File of rare words, one a line.", show_default=False)
]
ModelOption = Annotated[str, typer.Option(help="Model whose encoder makes the frames.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Directory for the results.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(synthesize)
    app.command()(train)
    app.command()(calibrate)


def synthesize(
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="File of sentences, one a line.")],
    out: OutOption,
    split: Annotated[
        Literal["train", "dev", "test"],
        typer.Option(help="'dev' and 'test' speak the sentences that 'train' leaves out."),
    ] = "train",
    utterances: Annotated[
        int | None,
        typer.Option("--utterances", "-n", min=1, help="How many.", show_default="held-out ones"),
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="Number of the first, to add to data.")] = 0,
    rare_words: WordsOption = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of words never to be spoken.", show_default=False)
    ] = None,
    voice: Annotated[
        Literal["hibari", "kokoro"], typer.Option(help="Fast and one, or slow and many.")
    ] = "hibari",
    voices: Annotated[
        list[str] | None, typer.Option("--voices", help="Kokoro voice. Repeatable.")
    ] = None,
    augment: Annotated[bool, typer.Option(help="Vary speaker, room, noise and line.")] = True,
    takes: Annotated[int, typer.Option(min=1, help="Degraded copies of each utterance.")] = 1,
    seed: Annotated[int, typer.Option(help="Chooses everything random.")] = 1,
    keep_audio: Annotated[
        bool, typer.Option("--keep-audio", help="Also write flac files and manifest.jsonl.")
    ] = False,
    model: ModelOption = "whisper-base",
    processes: Annotated[int, typer.Option("--processes", "-j", min=1, help="Side by side.")] = 2,
) -> None:
    """Speak sentences in synthetic voices and store their frames; goes on where it was left."""
    from a2p_engine import models
    from a2p_engine.errors import InputError
    from a2p_engine.training import synthesize as synthesis

    if split == "train" and utterances is None:
        raise InputError("the split 'train' has no end of its own: say --utterances")
    plan = synthesis.SynthesisPlan(
        text=text,
        rare_words=rare_words,
        exclude=exclude,
        split=split,
        utterances=utterances,
        first=first,
        voice=voice,
        voices=tuple(voices) if voices else None,
        augment=augment,
        takes=takes,
        seed=seed,
        keep_audio=keep_audio,
        model=models.find(model),
        voice_model=models.find("kokoro-82m") if voice == "kokoro" else None,
    )
    written = synthesis.synthesize(plan, out=out, processes=processes)
    note(f"{written} new shards in {out}")


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file, as in a2p_engine/training/configs.")
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
    path = training.train(
        config=config,
        data=data,
        dev=dev,
        out=out,
        model=models.find(model),
        rare_words=rare_words,
        phoneme_head=phoneme_head,
        resume=resume,
        stop_after_steps=stop_after_steps,
    )
    note(f"trained head: {path}")


def calibrate(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="Directory with both trained heads.")
    ],
    data: Annotated[
        list[Path],
        typer.Option("--data", "-d", help="Directory of development shards. Repeatable."),
    ],
    rare_words: Annotated[Path, typer.Option(help="File of rare words, one a line.")],
    terms: Annotated[int, typer.Option(min=100, help="Size of the glossary searched.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Chooses the glossary.")] = 0,
    model: ModelOption = "whisper-base",
) -> None:
    """Fit the probability of a term to development data; writes calibration.json to WEIGHTS."""
    from a2p_engine.training import calibrate as calibration

    path = calibration.calibrate(
        weights=weights,
        data=data,
        rare_words=rare_words,
        speech_llm=model,
        glossary_size=terms,
        seed=seed,
    )
    note(f"calibration: {path}")
