"""``a2p demo``: a ward round captioned live, with a glossary of 10,000 terms and without one."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from a2p_engine.manifest import Recording
from clients.terminal import TERM_STYLE, TerminalCaptions
from streaming.cli.local_server import local_server
from streaming.evaluation.live import Record, measure, percentiles

DATA = Path(__file__).parent.parent / "examples" / "data"
RECORDING = Recording(
    id="ward_round",
    audio=DATA / "ward_round.flac",
    text=(
        "Good morning. Bed four came in with a racing heart, so we switched her from warfarin to "
        "apixaban. Her blood sugar is high as well. I would add empagliflozin and keep the "
        "rosuvastatin at night. Fine. And the levetiracetam stays as it is, because she has not "
        "had a seizure since March."
    ),
    terms=("warfarin", "apixaban", "empagliflozin", "rosuvastatin", "levetiracetam"),
)
GLOSSARY = DATA / "glossary_10k.txt"
READY_WITHIN_S = 120.0  # the first start pronounces ten thousand terms and compiles


def run_demo(console: Console | None = None) -> int:
    """Caption the recording twice at real-time pace and compare; returns the exit status.

    The status is 0 when the glossary brought at least two more of the spoken terms out right and no
    term was written that was not spoken.
    """
    console = console or Console(highlight=False)
    console.print(Text("Starting the server with a glossary of 10,000 terms …", "dim"))
    with local_server(["--glossary", f"ward={GLOSSARY}"]) as url:
        _wait_until_ready(url)
        records = {
            name: asyncio.run(_caption(console, url, glossary))
            for name, glossary in (("with the glossary", "ward"), ("without", None))
        }
    console.print(_side_by_side(records))
    console.print(_figures(records))
    return _verdict(console, *records.values())


def _wait_until_ready(url: str) -> None:
    """Speak when models and glossary are loaded, or as soon as that takes too long."""
    ready = httpx.URL(url).copy_with(scheme="http", path="/readyz")
    patience = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < patience and httpx.get(ready).status_code != httpx.codes.OK:
        time.sleep(0.2)


async def _caption(console: Console, url: str, glossary: str | None) -> Record:
    title = "Live, with the glossary" if glossary else "The same without a glossary"
    console.print(Rule(title, style="dim"))
    with TerminalCaptions(console) as captions:
        return await measure(url, RECORDING, glossary=glossary, watch=captions.handle)


def _side_by_side(records: dict[str, Record]) -> Table:
    table = Table(show_lines=False, padding=(0, 2, 0, 0), box=None)
    for name in records:
        table.add_column(name, style="default", ratio=1)
    after, before = (record.hypothesis.split() for record in records.values())
    left, right = Text(), Text()
    for kind, a, b, c, d in difflib.SequenceMatcher(None, after, before).get_opcodes():
        changed = kind != "equal"
        left.append(" ".join(after[a:b]) + " ", TERM_STYLE if changed else "")
        right.append(" ".join(before[c:d]) + " ", "bold red" if changed else "")
    table.add_row(left, right)
    return table


def _figures(records: dict[str, Record]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in records:
        table.add_column(name, justify="right")
    rows: dict[str, Callable[[Record], str]] = {
        "terms right": lambda r: f"{len(r.found)} of {len(r.terms)}",
        "wrong terms written": lambda r: str(len(r.inserted)),
        "first partial after speech begins, median": lambda r: _median(r.first_partial_s),
        "final after speech ends, median": lambda r: _median(r.final_s),
        "real-time factor": lambda r: f"{(r.audio_s + _behind(r)) / r.audio_s:.2f}",
    }
    for label, shown in rows.items():
        table.add_row(label, *(shown(record) for record in records.values()))
    return table


def _behind(record: Record) -> float:
    """Seconds that the last caption came after the end of the recording."""
    return max(0.0, record.final_s[-1]) if record.final_s else 0.0


def _median(values_s: list[float]) -> str:
    summary = percentiles(values_s)
    return f"{summary['p50']:.2f} s" if summary else "-"


def _verdict(console: Console, after: Record, before: Record) -> int:
    gained = sorted(set(after.found) - set(before.found))
    if len(gained) >= 2 and not after.inserted:
        console.print(Text(f"The glossary corrected {', '.join(gained)}.", "green"))
        return 0
    console.print(
        Text(
            f"The glossary corrected {', '.join(gained) or 'nothing'} and inserted "
            f"{', '.join(after.inserted) or 'nothing'}; two corrections and no insertion are due.",
            "red",
        )
    )
    return 1
