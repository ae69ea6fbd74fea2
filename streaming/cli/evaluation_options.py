"""Options that the commands of ``a2p eval`` share, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from a2p_engine.evaluation.glossary_plan import GlossaryOptions
    from a2p_engine.evaluation.retrieval import SearchOptions

ManifestOption = Annotated[
    Path,
    typer.Option("--manifest", "-m", help='JSON lines of {"id", "audio", "text", "terms"}.'),
]
ManifestsOption = Annotated[
    list[Path],
    typer.Option(
        "--manifest", "-m", help='JSON lines of {"id", "audio", "text", "terms"}; repeatable.'
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DumpOption = Annotated[
    Path | None,
    typer.Option(help="Also write one line of JSON for each utterance.", show_default=False),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Only the first utterances.", show_default=False)
]
GlossaryOption = Annotated[
    Path | None, typer.Option("--glossary", "-g", help="Terms.", show_default=False)
]
DistractorsOption = Annotated[
    Path | None,
    typer.Option(help="Word list to draw glossaries from, one a line.", show_default=False),
]
SizesOption = Annotated[str, typer.Option(help="Terms of the glossaries drawn.")]
OwnListsOption = Annotated[
    bool,
    typer.Option(
        "--own-lists", help="Each recording gets its own terms and the distractors, no others'."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of all that is drawn.")]


def glossary_options(
    file: Path | None, words: Path | None, sizes: str, own_lists: bool, seed: int
) -> GlossaryOptions:
    """Which glossaries to search for.

    Raises:
        InputError: the options do not go together, or a size is none.
    """
    from a2p_engine.errors import InputError
    from a2p_engine.evaluation.glossary_plan import GlossaryOptions

    if (file is None) == (words is None):
        raise InputError("give either --glossary or --distractors")
    if own_lists and file is not None:
        raise InputError("--own-lists takes --distractors; a glossary is the same for all")
    return GlossaryOptions(
        file=file,
        words=words,
        sizes=[int(size) for size in _numbers("sizes", sizes)],
        own_lists=own_lists,
        seed=seed,
    )


def search_options(
    snr: str, noise: str, stages: bool, ticks: float | None, seed: int
) -> SearchOptions:
    """How recordings are searched.

    Raises:
        InputError: a signal-to-noise ratio is no number.
    """
    from a2p_engine.evaluation.retrieval import Condition, SearchOptions

    levels = [None if part.strip() == "clean" else part for part in snr.split(",")]
    conditions = dict.fromkeys(
        Condition(snr_db=None if level is None else _numbers("snr", level)[0]) for level in levels
    )
    return SearchOptions(
        conditions=tuple(conditions), noise=noise, stages=stages, tick_s=ticks, seed=seed
    )


def _numbers(name: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    from a2p_engine.errors import InputError

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--{name} {text}: takes numbers separated by commas") from None
    if name == "sizes" and any(number < 1 or number != int(number) for number in found):
        raise InputError(f"--sizes {text}: takes whole numbers from 1 on")
    return found
