"""``a2p transcribe``, ``a2p retrieve`` and ``a2p glossary``: files in, results out, no server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streaming.cli import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2p_engine.types import TermHit
    from streaming.events import Final

Format = Literal["txt", "json", "srt", "vtt"]
OptionalGlossary = Annotated[
    Path | None, typer.Option("--glossary", "-g", help="Terms to get right.", show_default=False)
]
Glossary = Annotated[Path, typer.Option("--glossary", "-g", help="Terms to look for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

glossary_app = typer.Typer(no_args_is_help=True, help="Work on glossaries in files and in a store.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(transcribe)
    app.command()(retrieve)
    app.add_typer(glossary_app, name="glossary")


def transcribe(
    file: common.AudioArgument,
    glossary: OptionalGlossary = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="What to write.")] = "txt",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="stdout")
    ] = None,
    language: common.LanguageOption = "en",
    task: common.TaskOption = "transcribe",
    target: common.TargetOption = "en",
    source_text: common.SourceTextOption = False,
    vad: common.VadOption = "silero",
    top_k: common.TopKOption = 10,
    threshold: common.ThresholdOption = "balanced",
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Caption a recording with the live pipeline, as fast as this machine can."""
    from a2p_engine.audio import read_audio
    from streaming import offline
    from streaming.cli.formats import WRITERS

    audio = read_audio(file)
    terms = common.read_terms(glossary, language) if glossary else []
    engine = common.load_engine(speech_llm, retriever, device)
    options = common.session_options(language, task, top_k, threshold, target, source_text)
    config = offline.OfflineConfig(options=options, vad=vad)
    finals = offline.transcribe(engine, audio, config, terms)
    common.write_text(WRITERS[form](finals), output)


def retrieve(
    file: common.AudioArgument,
    glossary: Glossary,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, help="Terms of each stretch of speech.")
    ] = 10,
    threshold: common.ThresholdOption = 0.0,
    as_json: AsJson = False,
    language: common.LanguageOption = "en",
    vad: common.VadOption = "silero",
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Show which terms of a glossary are probably spoken in a recording, and where."""
    from a2p_engine.audio import read_audio
    from streaming import offline

    audio = read_audio(file)
    terms = common.read_terms(glossary, language)
    engine = common.load_engine(speech_llm, retriever, device)
    options = common.session_options(language, "transcribe", top_k, threshold)
    config = offline.OfflineConfig(options=options, vad=vad)
    finals = offline.transcribe(engine, audio, config, terms)
    if not finals:
        common.note(f"{file}: no speech was found")
    _show_hits(finals, as_json=as_json)


def _show_hits(finals: Sequence[Final], *, as_json: bool) -> None:
    import json

    if as_json:
        segments = [final.to_dict() for final in finals]
        kept = ("segment_id", "start_s", "end_s", "terms")
        print(json.dumps([{key: each[key] for key in kept} for each in segments], indent=2))
        return
    hits = [hit for final in finals for hit in final.terms]
    rows = [(f"{hit.probability:.3f}", *_span(hit), hit.term) for hit in hits]
    common.show_table(("probability", "start", "end", "term"), rows)


def _span(hit: TermHit) -> tuple[str, str]:
    from a2p_engine.types import SAMPLE_RATE_HZ

    times = (hit.start_sample, hit.end_sample)
    start, end = ("-" if at is None else f"{at / SAMPLE_RATE_HZ:.2f} s" for at in times)
    return start, end


@glossary_app.command()
def index(
    file: Annotated[Path, typer.Argument(metavar="GLOSSARY", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: NAME.safetensors.")],
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
) -> None:
    """Index a long glossary once, so that a server maps it in no time; goes on where it was left.

    Pronouncing a million new terms takes a quarter of an hour and more. Offer the file with
    `a2p serve --glossary NAME=FILE`.
    """
    from rich.console import Console
    from rich.progress import Progress

    from a2p_engine.errors import InputError

    if out.suffix != ".safetensors":
        raise InputError(f"the index {out} must end in .safetensors")
    if not os.access(out.parent, os.W_OK):  # to be said before the quarter of an hour, not after
        raise InputError(f"cannot write to the folder of {out}")
    terms = common.read_terms(file)
    engine = common.load_engine(speech_llm, retriever, "cpu")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("terms", total=len(terms))
        engine.save_index(terms, out, lambda done: bar.update(task, completed=done))
    common.note(f"{out}: {len(terms)} terms, {out.stat().st_size / 1e6:.1f} MB")


@glossary_app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="GLOSSARY", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say how many terms of a glossary can be used, and why others cannot; exit 1 if any."""
    import json

    from a2p_engine import glossary

    parsed = glossary.load(file)
    silent = glossary.unpronounced(parsed.terms)
    terms = len(parsed.terms) - len(silent)
    rejected = [*parsed.rejected, *((text, glossary.UNPRONOUNCED) for text in silent)]
    if as_json:
        entries = [{"entry": entry, "reason": reason} for entry, reason in rejected]
        report = {"terms": terms, "rejected": entries, "notes": parsed.notes}
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print(f"{file}: {terms} terms, {len(rejected)} left out")
        for remark in parsed.notes:
            print(f"  {remark}")
        for entry, reason in rejected:
            print(f"  {entry!r}: {reason}")
    if rejected or not terms:
        raise typer.Exit(1)
