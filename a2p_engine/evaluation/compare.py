"""End to end, offline: the same recordings written by several systems, and what they got right.

A recording of up to 28 s is decoded whole, a longer one in pieces cut where it is quietest. Every
system sees the same frames of the same pieces; only the prompt differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2p_engine.audio import read_audio
from a2p_engine.encoders import Device
from a2p_engine.errors import InputError
from a2p_engine.evaluation.compare_report import SystemResult, results
from a2p_engine.evaluation.glossary_plan import GlossaryOptions, Listing, SizedGlossary
from a2p_engine.evaluation.ledger import Ledger
from a2p_engine.evaluation.models import Models
from a2p_engine.evaluation.retrieval_run import write
from a2p_engine.evaluation.systems import NONE, ORACLE, SYSTEMS, Field, passages
from a2p_engine.evaluation.words import TermFinder, normalised
from a2p_engine.manifest import Recording
from a2p_engine.types import SAMPLE_RATE_HZ, Eagerness, SessionOptions


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What to compare.

    Attributes:
        glossaries: the glossaries.
        systems: some of ``SYSTEMS``; the one without a glossary is always among them.
        threshold: at which our system offers terms.
        no_terms: keep only recordings in whose text no term of any glossary occurs.
        speech_llm: what writes.
        retriever: directory of trained weights; None takes the shipped ones.
        device: where the models run.
        out: folder for results; an interrupted comparison goes on there.
    """

    glossaries: GlossaryOptions
    systems: tuple[str, ...] = SYSTEMS
    threshold: float | Eagerness = "balanced"
    no_terms: bool = False
    speech_llm: str = "whisper-base"
    retriever: Path | None = None
    device: Device = "auto"
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What came of it."""

    settings: dict[str, Any]
    results: tuple[SystemResult, ...]

    def json(self) -> dict[str, Any]:
        """For printing and for report.json."""
        return {"settings": self.settings, "results": [result.json() for result in self.results]}


def run(
    recordings: Sequence[Recording],
    comparison: Comparison,
    progress: Callable[[], None] = lambda: None,
) -> Compared:
    """Compare.

    Raises:
        InputError: a system is unknown, a glossary cannot be had, no recording is left, or the
            folder holds another comparison.
        ModelError: weights are missing or damaged.
    """
    _check(comparison.systems)
    systems = tuple(s for s in SYSTEMS if s in {NONE, *comparison.systems})
    listings = comparison.glossaries.listings(recordings)
    if comparison.no_terms:
        recordings = speech_without_terms(recordings, listings)
    settings = _settings(recordings, comparison, systems)
    ledger = Ledger(comparison.out, settings)
    models = Models.load(comparison.speech_llm, comparison.retriever, comparison.device)
    models.pronounce(listings[-1].terms)
    durations = _run_all(recordings, listings, models, comparison, systems, ledger, progress)
    found = results(recordings, durations, listings, ledger.outcomes, systems)
    compared = Compared(settings=settings, results=tuple(found))
    if comparison.out is not None:
        write(comparison.out / "report.json", json.dumps(compared.json(), indent=1) + "\n")
    return compared


def _run_all(
    recordings: Sequence[Recording],
    listings: Sequence[Listing],
    models: Models,
    comparison: Comparison,
    systems: Sequence[str],
    ledger: Ledger,
    progress: Callable[[], None],
) -> list[float]:
    """Let each system write each recording, where the ledger lacks it; hours of audio of each."""
    options = SessionOptions(threshold=comparison.threshold)
    fields = [
        Field(
            SizedGlossary.of(listing, models.retriever, recordings),
            models,
            recordings,
            options,
            comparison.glossaries.seed,
        )
        for listing in listings
    ]
    durations_h = []
    for number, recording in enumerate(recordings):
        samples = read_audio(recording.audio)
        durations_h.append(len(samples) / SAMPLE_RATE_HZ / 3600)
        missing = [
            (field, system)
            for field, listing in zip(fields, listings, strict=True)
            for system in systems
            if (recording.id, system, size_of(system, listing)) not in ledger.outcomes
        ]
        heard = passages(samples, models) if missing else []
        for field, system in missing:
            outcome = field.run(system, number, heard)
            if (outcome.id, outcome.system, outcome.size) not in ledger.outcomes:
                ledger.add(outcome)
        progress()
    return durations_h


def size_of(system: str, listing: Listing) -> int:
    """Size that a system's outcomes are kept under."""
    return 0 if system in (NONE, ORACLE) else listing.size


def speech_without_terms(
    recordings: Sequence[Recording], listings: Sequence[Listing]
) -> list[Recording]:
    """Recordings whose text has no term of any of the glossaries.

    Raises:
        InputError: there is none.
    """
    finders = [TermFinder(term.text for term in listing.terms) for listing in listings]
    kept = [
        recording
        for recording in recordings
        if recording.text is not None
        and not recording.terms
        and not any(finder.find(normalised(recording.text)) for finder in finders)
    ]
    if not kept:
        raise InputError("every recording says a term of the glossary, or its text is not known")
    return kept


def _check(systems: Sequence[str]) -> None:
    unknown = [system for system in systems if system not in SYSTEMS]
    if unknown:
        raise InputError(f"unknown system {unknown[0]!r}; accepted are {', '.join(SYSTEMS)}")


def _settings(
    recordings: Sequence[Recording], comparison: Comparison, systems: Sequence[str]
) -> dict[str, Any]:
    """What a reader needs to know to repeat it; files by their names only."""
    glossaries = comparison.glossaries
    return {
        "recordings": [recording.id for recording in recordings],
        "speech_llm": comparison.speech_llm,
        "retriever": comparison.retriever.name if comparison.retriever else "shipped",
        "glossary": glossaries.file.name if glossaries.file else None,
        "words": glossaries.words.name if glossaries.words else None,
        "sizes": list(glossaries.sizes),
        "own_lists": glossaries.own_lists,
        "seed": glossaries.seed,
        "threshold": comparison.threshold,
        "no_terms": comparison.no_terms,
        "systems": list(systems),
    }
