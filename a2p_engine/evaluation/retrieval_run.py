"""A whole evaluation of retrieval: load, search, report, draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from a2p_engine.encoders import Device
from a2p_engine.errors import InputError
from a2p_engine.evaluation.glossary_plan import GlossaryOptions, SizedGlossary
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.retrieval import SearchOptions, search, thresholds_of
from a2p_engine.evaluation.retrieval_report import Result, results
from a2p_engine.manifest import Recording


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure, and with what.

    Attributes:
        glossaries: what to search for.
        search: how.
        speech_llm: decides encoder, tokenizer and embeddings.
        retriever: directory of trained weights; None takes the shipped ones.
        device: where the models run.
        dump: file for one JSON line per recording, condition and size.
        out: folder for report.json and pictures.
    """

    glossaries: GlossaryOptions
    search: SearchOptions = field(default_factory=SearchOptions)
    speech_llm: str = "whisper-base"
    retriever: Path | None = None
    device: Device = "auto"
    dump: Path | None = None
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, and how."""

    settings: dict[str, Any]
    results: tuple[Result, ...]

    def json(self) -> dict[str, Any]:
        """For printing and for report.json."""
        return {"settings": self.settings, "results": [result.json() for result in self.results]}


def run(
    recordings: Sequence[Recording], request: Request, progress: Callable[[], None] = lambda: None
) -> Report:
    """Measure.

    Raises:
        InputError: a glossary cannot be had, a file cannot be written, or pictures cannot be drawn.
        ModelError: weights are missing or damaged.
    """
    listings = request.glossaries.listings(recordings)
    if request.out is not None:
        check_folder(request.out)
    models = Models.load(request.speech_llm, request.retriever, request.device)
    models.pronounce(listings[-1].terms)
    glossaries = [SizedGlossary.of(listing, models.retriever, recordings) for listing in listings]
    trials = list(search(recordings, glossaries, models, request.search, progress))
    if request.dump is not None:
        write(request.dump, "".join(json.dumps(asdict(trial)) + "\n" for trial in trials))
    report = Report(
        settings=settings_of(recordings, request),
        results=tuple(results(trials, thresholds_of(models.retriever))),
    )
    if request.out is not None:
        from a2p_engine.evaluation import retrieval_pictures

        write(request.out / "report.json", json.dumps(report.json(), indent=1) + "\n")
        retrieval_pictures.draw(report.results, request.out)
    return report


def check_folder(folder: Path) -> None:
    """Make a folder for results, and know before the work whether pictures can be drawn.

    Raises:
        InputError: the folder cannot be made, or matplotlib is missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError("matplotlib is missing: pip install 'a2p-live[train]'") from error


def write(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def settings_of(recordings: Sequence[Recording], request: Request) -> dict[str, Any]:
    """What a reader needs to know to repeat it; files by their names only."""
    return {
        "recordings": len(recordings),
        "speech_llm": request.speech_llm,
        "retriever": request.retriever.name if request.retriever else "shipped",
        "glossary": request.glossaries.file.name if request.glossaries.file else None,
        "words": request.glossaries.words.name if request.glossaries.words else None,
        "own_lists": request.glossaries.own_lists,
        "seed": request.glossaries.seed,
        "noise": request.search.noise,
        "tick_s": request.search.tick_s,
    }
