"""``a2p eval`` and ``a2p glossary draw``: how well retrieval and captions do on known speech."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streaming.cli import common, evaluation_tables
from streaming.cli.evaluation_options import (
    AsJson,
    DistractorsOption,
    DumpOption,
    GlossaryOption,
    LimitOption,
    ManifestOption,
    ManifestsOption,
    OwnListsOption,
    SeedOption,
    SizesOption,
    glossary_options,
    search_options,
)
from streaming.cli.files import glossary_app

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from a2p_engine.manifest import Recording
    from a2p_engine.types import Term
    from streaming.evaluation.live import Record

eval_app = typer.Typer(no_args_is_help=True, help="Measure retrieval and live captions.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(eval_app, name="eval")


@eval_app.command("streaming")
def streaming_(
    manifest: ManifestOption,
    glossary: GlossaryOption = None,
    as_json: AsJson = False,
    dump: DumpOption = None,
    limit: LimitOption = None,
    pace: Annotated[float, typer.Option(min=0.1, help="1 is real time.")] = 1.0,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", "-u", help="A running server that has the glossary.", show_default="own server"
        ),
    ] = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Stream recordings at real-time pace: latency, lag, word errors, terms, insertions."""
    import asyncio

    from a2p_engine.manifest import read_manifest
    from streaming.cli.local_server import local_server
    from streaming.evaluation import live as evaluate

    recordings = read_manifest(manifest)[:limit]
    options = ["--speech-llm", speech_llm, "--device", device]
    options += ["--retriever", str(retriever)] if retriever else []
    terms = common.read_terms(glossary) if glossary else []
    if glossary is not None:
        options += ["--glossary", f"{glossary.stem}={glossary}"]
    server: AbstractContextManager[str] = nullcontext(url) if url else local_server(options)
    with server as address:
        name = glossary.stem if glossary else None
        records = asyncio.run(_measure(address, recordings, name, terms, pace))
    if dump is not None:
        evaluate.dump(records, dump)
    evaluation_tables.show(evaluate.summarise(records), as_json=as_json)


@eval_app.command("retrieval")
def retrieval(
    manifest: ManifestsOption,
    glossary: GlossaryOption = None,
    distractors: DistractorsOption = None,
    sizes: SizesOption = "10000",
    own_lists: OwnListsOption = False,
    seed: SeedOption = 0,
    snr: Annotated[
        str, typer.Option(help="'clean', or decibels of speech over noise; several by commas.")
    ] = "clean",
    noise: Annotated[
        str, typer.Option(help="kitchen, babble, white, music or an audio file.")
    ] = "kitchen",
    stages: Annotated[
        bool, typer.Option("--stages", help="Also rank without the text and by each head alone.")
    ] = False,
    ticks: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Hear recordings in ticks of so many seconds.", show_default="at once"
        ),
    ] = None,
    as_json: AsJson = False,
    dump: DumpOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report and pictures.", show_default=False)
    ] = None,
    limit: LimitOption = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Search recordings for every term of a glossary: recall, precision, calibration."""
    from a2p_engine.evaluation import retrieval_run
    from a2p_engine.manifest import read_manifest

    recordings = [one for path in manifest for one in read_manifest(path)[:limit]]
    request = retrieval_run.Request(
        speech_llm=speech_llm,
        retriever=retriever,
        device=device,
        glossaries=glossary_options(glossary, distractors, sizes, own_lists, seed),
        search=search_options(snr, noise, stages, ticks, seed),
        dump=dump,
        out=out,
    )
    with progress(len(recordings)) as advance:
        report = retrieval_run.run(recordings, request, advance)
    if as_json:
        print(json.dumps(report.json(), indent=2))
    else:
        evaluation_tables.show_retrieval(report)


@eval_app.command("compare")
def compare(
    manifest: ManifestsOption,
    glossary: GlossaryOption = None,
    distractors: DistractorsOption = None,
    sizes: SizesOption = "2000,10000",
    own_lists: OwnListsOption = False,
    seed: SeedOption = 0,
    systems: Annotated[
        str | None, typer.Option(help="Some of them, by commas.", show_default="all")
    ] = None,
    threshold: common.ThresholdOption = "balanced",
    no_terms: Annotated[
        bool, typer.Option("--no-terms", help="Only recordings that say no term of a glossary.")
    ] = False,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results, where an interrupted run goes on.", show_default=False
        ),
    ] = None,
    limit: LimitOption = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Caption recordings with and without the retriever, and with simpler ways to choose terms.

    Systems: none, oracle, first_terms, wrong_prompt, a2p_head, fuzzy, phonetic, unguarded,
    wrong_list, ours.
    """
    from a2p_engine.evaluation import compare as comparing
    from a2p_engine.evaluation.systems import SYSTEMS
    from a2p_engine.manifest import read_manifest

    recordings = [one for path in manifest for one in read_manifest(path)[:limit]]
    comparison = comparing.Comparison(
        glossaries=glossary_options(glossary, distractors, sizes, own_lists, seed),
        systems=tuple(systems.split(",")) if systems else SYSTEMS,
        threshold=threshold,
        no_terms=no_terms,
        speech_llm=speech_llm,
        retriever=retriever,
        device=device,
        out=out,
    )
    with progress(len(recordings)) as advance:
        compared = comparing.run(recordings, comparison, advance)
    if as_json:
        print(json.dumps(compared.json(), indent=2))
    else:
        evaluation_tables.show_comparison(compared)


@eval_app.command("prompts")
def prompts(
    manifest: ManifestsOption,
    wrong: Annotated[
        int, typer.Option(min=1, help="Terms of other recordings that are told as well.")
    ] = 8,
    piece: Annotated[
        float, typer.Option(min=1, max=28, help="Cut recordings into pieces of so many seconds.")
    ] = 28,
    seed: SeedOption = 0,
    as_json: AsJson = False,
    limit: LimitOption = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    device: common.DeviceOption = "auto",
) -> None:
    """Compare forms of Whisper's prompt: a list, a glossary, a sentence, with earlier text."""
    from a2p_engine.evaluation import prompt_forms
    from a2p_engine.manifest import read_manifest

    recordings = [one for path in manifest for one in read_manifest(path)[:limit]]
    request = prompt_forms.Request(
        speech_llm=speech_llm, device=device, wrong=wrong, piece_s=piece, seed=seed
    )
    with progress(len(recordings)) as advance:
        compared = prompt_forms.run(recordings, request, advance)
    if as_json:
        print(json.dumps(compared.json(), indent=1))
    else:
        evaluation_tables.show_forms(compared)


@eval_app.command("translation")
def translation(
    manifest: ManifestsOption,
    glossary: GlossaryOption = None,
    target: common.TargetOption = "en",
    threshold: common.ThresholdOption = "balanced",
    as_json: AsJson = False,
    limit: LimitOption = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Translate recordings untold, told the right terms, and with a glossary: BLEU, chrF, terms.

    Lines of the manifest have "language", "translation" and "targets" besides.
    """
    from a2p_engine.engine import EngineSettings
    from a2p_engine.evaluation import translation as translating
    from a2p_engine.manifest import read_manifest

    recordings = [one for path in manifest for one in read_manifest(path)[:limit]]
    terms = common.read_terms(glossary) if glossary else []
    settings = EngineSettings(speech_llm=speech_llm, retriever=retriever, device=device)
    with progress(len(recordings)) as advance:
        found = translating.run(recordings, settings, terms, target, threshold, advance)
    if as_json:
        print(json.dumps([result.json() for result in found], ensure_ascii=False, indent=1))
    else:
        evaluation_tables.show_translations(found)


@eval_app.command("nonspeech")
def nonspeech(
    glossary: Annotated[Path, typer.Option("--glossary", "-g", help="Terms.")],
    minutes: Annotated[int, typer.Option(min=1, help="Of each sound.")] = 5,
    seed: SeedOption = 0,
    threshold: common.ThresholdOption = "balanced",
    vad: common.VadOption = "silero",
    as_json: AsJson = False,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Caption silence, noise, murmuring without words and music: nothing should be written."""
    from dataclasses import asdict

    from streaming import offline
    from streaming.evaluation import nonspeech as evaluate_nonspeech

    terms = common.read_terms(glossary)
    engine = common.load_engine(speech_llm, retriever, device)
    options = common.session_options("en", "transcribe", 10, threshold)
    config = offline.OfflineConfig(options=options, vad=vad)
    with progress(minutes * len(evaluate_nonspeech.SOUNDS), "minutes") as advance:
        found = list(evaluate_nonspeech.measure(engine, terms, minutes, config, seed, advance))
    if as_json:
        print(json.dumps([asdict(result) for result in found], indent=2))
        return
    columns = ("sound", "minutes", "segments", "words written", "terms written")
    rows = [(r.sound, r.minutes, r.segments, r.words, ", ".join(r.terms) or "-") for r in found]
    common.show_table(columns, rows)


@glossary_app.command("draw")
def draw(
    manifest: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", show_default=False)],
    words: Annotated[Path, typer.Option("--words", "-w", help="Word list, one a line.")],
    size: Annotated[int, typer.Option(min=1, help="Terms in all.")] = 10_000,
    seed: SeedOption = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="stdout")
    ] = None,
) -> None:
    """Draw a test glossary: the terms of recordings among words of a list that nobody says.

    A larger one contains a smaller one of the same seed. When the list is used up, words like its
    own are made up.
    """
    from a2p_engine.evaluation.distractors import glossary, spoken_terms
    from a2p_engine.manifest import read_manifest

    recordings = [one for path in manifest for one in read_manifest(path)]
    distractors = glossary_options(None, words, "1", False, seed).distractors(recordings)
    terms = glossary(spoken_terms(recordings), distractors, size)
    common.write_text("".join(f"{term}\n" for term in terms), output)


@contextmanager
def progress(total: int, what: str = "recordings") -> Iterator[Callable[[], None]]:
    """A bar where somebody watches; what it gives is called after each of them."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


async def _measure(
    url: str,
    recordings: Sequence[Recording],
    glossary: str | None,
    terms: Sequence[Term],
    pace: float,
) -> list[Record]:
    from streaming.evaluation import live as evaluate

    records = []
    with progress(len(recordings)) as advance:
        async for record in evaluate.evaluate_streaming(
            url, recordings, glossary=glossary, terms=(term.text for term in terms), pace=pace
        ):
            records.append(record)
            advance()
    return records
