"""Options and inputs that several commands share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from a2p_engine.engine import Engine
    from a2p_engine.types import Eagerness, SessionOptions, Term

Task = Literal["transcribe", "translate"]
Device = Literal["auto", "cpu", "cuda"]
Vad = Literal["silero", "webrtc", "energy"]


def parse_threshold(text: str | float) -> float | Eagerness:
    """A probability, or the name of one of the retriever's thresholds.

    Raises:
        BadParameter: it is neither.
    """
    from a2p_engine.types import EAGERNESS

    for name in EAGERNESS:
        if text == name:
            return name
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) <= 1:
            return number
    raise typer.BadParameter(f"{text!r} is neither a number from 0 to 1 nor {', '.join(EAGERNESS)}")


LanguageOption = Annotated[
    str, typer.Option("--language", "-l", help="Language spoken, as ISO 639-1 code.")
]
TaskOption = Annotated[Task, typer.Option(help="Write what was said, or its translation.")]
TargetOption = Annotated[str, typer.Option("--to", help="Language to translate into.")]
SourceTextOption = Annotated[
    bool, typer.Option("--source-text", help="Show what was said beneath a translation.")
]
SpeechLlmOption = Annotated[str, typer.Option(help="Model that writes the captions.")]
RetrieverOption = Annotated[
    Path | None, typer.Option(help="Directory of a retriever you trained.", show_default="shipped")
]
DeviceOption = Annotated[Device, typer.Option(help="Where the models run.")]
TopKOption = Annotated[
    int, typer.Option("--top-k", "-k", min=0, help="Most terms offered to the model at once.")
]
ThresholdOption = Annotated[
    Any,  # float or Eagerness
    typer.Option(
        parser=parse_threshold,
        metavar="[cautious|balanced|eager|NUMBER]",
        help="Least probability of an offered term.",
    ),
]
VadOption = Annotated[Vad, typer.Option(help="Voice activity detector.")]
AudioArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="WAV, FLAC, OGG, MP3 or AIFF.", show_default=False)
]

_PIPE_COLUMNS = 10_000
GLOSSARY_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".tbx")


def note(text: str) -> None:
    """Tell the user something that is not the command's result."""
    print(text, file=sys.stderr, flush=True)


def read_terms(path: Path, language: str = "auto") -> list[Term]:
    """Terms of a glossary file; how many entries are left out is told.

    Args:
        path: the file.
        language: what to read of a glossary in several languages.

    Raises:
        GlossaryError: the file cannot be read, or nothing in it can be used.
    """
    from a2p_engine import glossary
    from a2p_engine.errors import GlossaryError
    from a2p_engine.glossary_formats import Languages

    spoken = None if language == "auto" else language
    parsed = glossary.load(path, Languages(spoken))
    for remark in parsed.notes:
        note(f"glossary {path}: {remark}")
    if parsed.rejected:
        note(
            f"glossary {path}: {len(parsed.rejected)} entries are left out; "
            f"`a2p glossary check {path}` says why"
        )
    if not parsed.terms:
        raise GlossaryError(f"glossary {path} has no usable term")
    return parsed.terms


def load_engine(
    speech_llm: str,
    retriever: Path | None = None,
    device: Device = "auto",
    workers: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Engine:
    """Load the models, which takes some seconds.

    Raises:
        InputError: an option of the speech LLM is missing or unusable.
        ModelError: weights are missing or damaged.
    """
    from a2p_engine.engine import Engine, EngineSettings

    settings = EngineSettings(
        speech_llm=speech_llm,
        retriever=retriever,
        device=device,
        workers=workers,
        threads=max((os.cpu_count() or 1) // workers, 1),
        options=options or {},
    )
    return Engine.load(settings)


def session_options(
    language: str,
    task: Task,
    top_k: int,
    threshold: float | Eagerness,
    target_language: str = "en",
    source_text: bool = False,
) -> SessionOptions:
    """What a command asks of the engine."""
    from a2p_engine.types import SessionOptions

    return SessionOptions(
        language=language,
        task=task,
        target_language=target_language,
        source_text=source_text,
        top_k=top_k,
        threshold=threshold,
    )


def write_text(text: str, path: Path | None) -> None:
    """Write a result to a file, or to standard output when there is none.

    Raises:
        InputError: the file cannot be written.
    """
    from a2p_engine.errors import InputError

    if path is None:
        print(text, end="")
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a plain table; when it is piped, every row stays on one line."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    table: Any = Table(
        *columns, box=None, title=title or None, title_justify="left", pad_edge=False
    )
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))  # a bracket is a bracket
    console.print(table)
