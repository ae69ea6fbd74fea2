"""``a2p eval``: how well retrieval and live captions do on recordings with known text."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming.cli import common

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from a2p_engine.manifest import Recording
    from streaming.evaluate import Record

eval_app = typer.Typer(no_args_is_help=True, help="Measure retrieval and live captions.")

ManifestOption = Annotated[
    Path,
    typer.Option("--manifest", "-m", help='JSON lines of {"id", "audio", "text", "terms"}.'),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DumpOption = Annotated[
    Path | None,
    typer.Option(help="Also write one line of JSON for each utterance.", show_default=False),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only the first utterances.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(eval_app, name="eval")


@eval_app.command("streaming")
def streaming_(
    manifest: ManifestOption,
    glossary: Annotated[
        Path | None, typer.Option("--glossary", "-g", help="Terms.", show_default=False)
    ] = None,
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
    from streaming import evaluate
    from streaming.cli.local_server import local_server

    recordings = read_manifest(manifest)[:limit]
    options = ["--speech-llm", speech_llm, "--device", device]
    options += ["--retriever", str(retriever)] if retriever else []
    if glossary is not None:
        common.read_terms(glossary)
        options += ["--glossary", f"{glossary.stem}={glossary}"]
    server: AbstractContextManager[str] = nullcontext(url) if url else local_server(options)
    with server as address:
        name = glossary.stem if glossary else None
        records = asyncio.run(_measure(address, recordings, name, pace))
    if dump is not None:
        evaluate.dump(records, dump)
    _show(evaluate.summarise(records), as_json=as_json)


@eval_app.command("retrieval")
def retrieval(
    manifest: ManifestOption,
    glossary: Annotated[Path, typer.Option("--glossary", "-g", help="Terms to search for.")],
    as_json: AsJson = False,
    dump: DumpOption = None,
    limit: LimitOption = None,
    speech_llm: common.SpeechLlmOption = "whisper-base",
    retriever: common.RetrieverOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Search recordings for every term of a glossary: recall, also of terms new to the heads."""
    from a2p_engine.training.evaluate import evaluate_retrieval

    report = evaluate_retrieval(
        manifest=manifest,
        glossary=glossary,
        speech_llm=speech_llm,
        retriever=retriever,
        device=device,
        limit=limit,
        dump=dump,
    )
    _show(report.summary(), as_json=as_json)


async def _measure(
    url: str, recordings: list[Recording], glossary: str | None, pace: float
) -> list[Record]:
    from rich.console import Console
    from rich.progress import Progress

    from streaming import evaluate

    records = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("recordings", total=len(recordings))
        async for record in evaluate.evaluate_streaming(
            url, recordings, glossary=glossary, pace=pace
        ):
            records.append(record)
            bar.advance(task)
    return records


def _show(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    rows = []
    for name, value in summary.items():
        if isinstance(value, dict):
            value = "  ".join(f"{key} {part}" for key, part in value.items())
        rows.append((name, "-" if value is None else value))
    common.show_table(("measure", "value"), rows)
