"""Speech to train and test on: ``synthesize``, ``voice-lists``, ``overlap``, ``data-report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli.common import note, write_text
from streaming.cli.training import ModelOption, OutOption, WordsOption

if TYPE_CHECKING:
    from a2p_engine.training.overlap import Overlap

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProcessesOption = Annotated[
    int, typer.Option("--processes", "-j", min=1, help="Number of processes side by side.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(synthesize)
    app.command()(voice_lists)
    app.command()(overlap)
    app.command()(data_report)


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
        Path | None,
        typer.Option(help="File of words and phrases never to be spoken.", show_default=False),
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
    storage: Annotated[
        Literal["float16", "int8"], typer.Option(help="'int8' takes half the disk.")
    ] = "float16",
    model: ModelOption = "whisper-base",
    processes: ProcessesOption = 2,
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
        storage=storage,
        model=models.find(model),
        voice_model=models.find("kokoro-82m") if voice == "kokoro" else None,
    )
    written = synthesis.synthesize(plan, out=out, processes=processes)
    note(f"{written} new shards in {out}")


def voice_lists(
    lists: Annotated[
        Path,
        typer.Argument(metavar="LISTS", help="LibriSpeech biasing lists, tab-separated."),
    ],
    out: OutOption,
    utterances: Annotated[
        int | None,
        typer.Option("--utterances", "-n", min=1, help="How many, at random.", show_default="all"),
    ] = None,
    voices: Annotated[
        list[str] | None,
        typer.Option(
            "--voices",
            help="Kokoro voice. Repeatable.",
            show_default="those held out of training",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses utterances, voices and pace.")] = 1,
    processes: ProcessesOption = 2,
) -> None:
    """Speak the transcripts of biasing lists, to evaluate on; goes on where it was left."""
    from a2p_engine import models
    from a2p_engine.training import voiced_lists

    made = voiced_lists.voice_lists(
        lists,
        out=out,
        voice_model=models.find("kokoro-82m"),
        utterances=utterances,
        voices=voices,
        seed=seed,
        processes=processes,
    )
    note(f"{made} new recordings; manifest: {out / 'manifest.jsonl'}")


def overlap(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", "-d", help="Directory of training shards. Repeatable."),
    ] = None,
    weights: Annotated[
        list[Path] | None, typer.Option(help="Directory of trained heads. Repeatable.")
    ] = None,
    lists: Annotated[
        list[Path] | None,
        typer.Option(help="Biasing lists; their reference rare words count. Repeatable."),
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option("--manifest", "-m", help="Manifest; its terms count. Repeatable."),
    ] = None,
    terms: Annotated[
        list[Path] | None, typer.Option(help="File of terms, one a line. Repeatable.")
    ] = None,
    common: Annotated[
        Path | None,
        typer.Option(
            help="File of words that may be spoken although part of a phrase.", show_default=False
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Write what to exclude, for 'synthesize'.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which terms of an evaluation were spoken in training; exit 1 if any."""
    from a2p_engine.errors import InputError
    from a2p_engine.training import overlap as overlaps
    from a2p_engine.training.texts import read_lines

    wanted = overlaps.terms_of_evaluation(
        lists=lists or (),
        manifests=manifest or (),
        files=terms or (),
        common=read_lines(common) if common else (),
    )
    if not wanted:
        raise InputError("no terms to look for: say --lists, --manifest or --terms")
    if not (data or weights or write):
        raise InputError("nowhere to look for the terms: say --data or --weights, or --write")
    if write:
        write_text("".join(f"{term}\n" for term in wanted), write)
        note(f"{write}: {len(wanted)} words and phrases")
    found = [
        *(overlaps.overlap_with_shards(wanted, directory) for directory in data or ()),
        *(overlaps.overlap_with_weights(wanted, directory) for directory in weights or ()),
    ]
    _print_overlap(found, len(wanted), as_json=as_json)
    if any(source.spoken for source in found):
        raise typer.Exit(1)


def _print_overlap(found: list[Overlap], terms: int, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        sources = [{**asdict(source), "source": str(source.source)} for source in found]
        print(json.dumps({"terms": terms, "sources": sources}, ensure_ascii=False, indent=2))
        return
    for source in found:
        amount = f"{source.texts} utterances" if source.texts else "words of training"
        share = (
            f"{len(source.spoken)} of {terms} terms" if source.spoken else f"nil of {terms} terms"
        )
        print(f"{source.source} ({amount}): {share} spoken")
        for term, count in source.spoken.items():
            print(f"  {term} ({count})" if source.texts else f"  {term}")
        if source.undecided:
            print(f"  not known, each word was spoken: {', '.join(source.undecided)}")


def data_report(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Directories of training shards.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say how much speech, of which voices and words, training data hold."""
    import json
    from dataclasses import asdict

    from a2p_engine.training.report import report_data

    report = report_data(directories)
    if as_json:
        print(json.dumps(asdict(report), ensure_ascii=False, indent=2))
        return
    print(f"{report.hours:.1f} hours, {report.utterances} utterances")
    print(f"{report.running_words} words, {report.distinct_words} different ones")
    for voice, hours in report.voices.items():
        print(f"  {voice}: {hours:.2f} hours")
