"""``a2p bench serve``: how many people one server can caption, and what happens beyond."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streaming.cli import common

if TYPE_CHECKING:
    from streaming.bench.levels import Level, Load
    from streaming.bench.process import ProcessMeter
    from streaming.bench.talker import Pcm

SESSIONS = "1,2,3,4,6,8,12,16,24,32"
IDLE_S = 20.0
COLUMNS = (
    "sessions", "first partial p50", "p95", "final p50", "p95", "p99", "partials/s", "erasure",
    "finals", "lost", "repeated", "refused", "CPU %", "MB",
)  # fmt: skip


def serve(
    sessions: Annotated[
        str, typer.Option(help="Numbers of clients, one level after the other.")
    ] = SESSIONS,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="Recordings to speak; repeatable.", show_default="the bundled one"),
    ] = None,
    activity: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the time that is speech.")
    ] = 0.4,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a level.")] = 60.0,
    pace: Annotated[float, typer.Option(min=0.1, help="1 is real time.")] = 1.0,
    bound: Annotated[
        float, typer.Option(min=0.01, help="Seconds; a final's 95th percentile beyond ends it.")
    ] = 2.0,
    idle: Annotated[
        int, typer.Option(min=0, help="Instead, measure so many clients that say nothing.")
    ] = 0,
    soak: Annotated[
        float, typer.Option(min=0, help="Instead, run the first level for so many minutes.")
    ] = 0.0,
    admission: Annotated[
        Literal["fixed", "measured"],
        typer.Option(help="'measured' lets the server refuse sessions."),
    ] = "fixed",
    glossary: Annotated[
        Path | None, typer.Option("--glossary", "-g", help="Listen for its terms.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Engine steps at the same time.", show_default="2")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Measure a running server.", show_default="one of its own")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to draw the levels into.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses order and pauses.")] = 1,
) -> None:
    """Speak to a server with more and more clients until captions come too late.

    Latencies are those of a microphone: a sample counts as spoken when it would have been recorded.
    """
    from a2p_engine.errors import InputError
    from streaming.bench.levels import Load
    from streaming.cli.bench import counts, plotting

    numbers = counts("sessions", sessions)
    if min(numbers) < 1:
        raise InputError(f"--sessions {min(numbers)}: takes 1 or more")
    if url is not None and (idle or soak or glossary or workers or admission == "measured"):
        raise InputError(
            "--url: --idle, --soak, --glossary, --workers and --admission measured need a server "
            "of its own"
        )
    if picture is not None:
        plotting(picture, "streaming.bench.picture")
    recordings = [] if idle else _recordings(manifest)
    load = Load(
        activity=activity,
        seconds=soak * 60 or seconds,
        pace=pace,
        glossary=glossary.stem if glossary else None,
        seed=seed,
    )
    with _server(url, max(*numbers, idle), admission, glossary, workers) as (address, meter):
        if idle or soak:
            assert meter is not None  # a server of its own
            found = asyncio.run(_special(address, meter, idle, numbers[0], recordings, load))
        else:
            levels = asyncio.run(_levels(address, meter, recordings, numbers, load, bound))
            found = _conclude(levels, bound, picture)
    report = {**_header(load, bound, admission, manifest, workers, glossary), **found}
    if as_json:
        print(json.dumps(report, indent=2))


async def _levels(
    url: str,
    meter: ProcessMeter | None,
    recordings: Sequence[Pcm],
    numbers: Sequence[int],
    load: Load,
    bound: float,
) -> list[Level]:
    from streaming.bench.levels import level, rise

    common.note("warming up")
    await level(url, recordings, 1, type(load)(seconds=5.0, glossary=load.glossary), meter)
    levels: list[Level] = []
    try:
        async for found in rise(url, recordings, numbers, load, bound, meter):
            levels.append(found)
            final = found.final_s or {}
            common.note(f"{found.sessions} sessions: final p95 {final.get('p95', '-')} s")
    except asyncio.CancelledError:  # Ctrl-C: what was measured is worth minutes
        if not levels:
            raise
    return levels


async def _special(
    url: str,
    meter: ProcessMeter,
    idle_clients: int,
    sessions: int,
    recordings: Sequence[Pcm],
    load: Load,
) -> dict[str, Any]:
    from dataclasses import asdict

    from streaming.bench.idle import idle
    from streaming.bench.levels import soak

    if idle_clients:
        quiet = await idle(url, idle_clients, IDLE_S, meter)
        common.note("CPU of the server in percent of a core")
        for name, value in asdict(quiet).items():
            common.note(f"{name:>8} {value}")
        return {"idle": asdict(quiet)}
    long = await soak(url, recordings, sessions, load, meter)
    _show([long.level])
    common.note(f"memory grew by {long.growth_percent} % after the first minutes")
    return {"soak": asdict(long)}


def _conclude(levels: Sequence[Level], bound: float, picture: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from streaming.bench.levels import capacity

    _show(levels)
    most = capacity(levels, bound)
    broken = not levels[-1].within(bound)
    common.note(
        f"capacity: {most} sessions with finals within {bound:g} s (95th percentile)"
        + ("" if broken else "; the bound was not reached")
    )
    if picture is not None:
        from streaming.bench.picture import draw

        draw(levels, bound, f"One server, up to {levels[-1].sessions} sessions", picture)
    return {"capacity": most, "bound_reached": broken, "levels": [asdict(each) for each in levels]}


def _show(levels: Sequence[Level]) -> None:
    import sys
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        common.show_table(COLUMNS, [_row(each) for each in levels])


def _row(found: Level) -> list[object]:
    first, final = found.first_partial_s or {}, found.final_s or {}
    values = [
        found.sessions,
        *(first.get(key) for key in ("p50", "p95")),
        *(final.get(key) for key in ("p50", "p95", "p99")),
        found.partials_per_s,
        found.normalized_erasure,
        found.finals,
        found.lost,
        found.repeated,
        found.refused,
        found.cpu_percent,
        None if found.resident_bytes is None else found.resident_bytes // 2**20,
    ]
    return ["-" if value is None else value for value in values]


@contextmanager
def _server(
    url: str | None, sessions: int, admission: str, glossary: Path | None, workers: int | None
) -> Iterator[tuple[str, ProcessMeter | None]]:
    """The server at ``url``, or one of its own."""
    from streaming.bench.process import ProcessMeter
    from streaming.cli.local_server import local_process

    if url is not None:
        yield url, None
        return
    with TemporaryDirectory() as folder:
        config = Path(folder) / "server.toml"
        config.write_text(f'[server]\nadmission = "{admission}"\n', encoding="utf-8")
        options = ["--config", str(config), "--max-sessions", str(sessions + 1)]
        options += ["--glossary", str(glossary)] if glossary else []
        options += ["--workers", str(workers)] if workers else []
        with local_process(options) as local:
            yield local.url, ProcessMeter(local.pid)


def _recordings(manifests: Sequence[Path] | None) -> list[Pcm]:
    """All recordings of the manifests as PCM; the bundled one without any."""
    import numpy as np

    from a2p_engine.manifest import read_manifest
    from clients.audio import stream_file
    from streaming.demo import RECORDING

    paths = [each.audio for path in manifests or () for each in read_manifest(path)]

    async def read(path: Path) -> Pcm:
        data = b"".join([chunk async for chunk in stream_file(path, pace=0)])
        return np.frombuffer(data, np.int16)

    async def read_all() -> list[Pcm]:
        return [await read(path) for path in paths or [RECORDING.audio]]

    return asyncio.run(read_all())


def _header(
    load: Load,
    bound: float,
    admission: str,
    manifests: Sequence[Path] | None,
    workers: int | None,
    glossary: Path | None,
) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC, datetime

    from a2p_engine.bench.machine import Machine, find_device

    return {
        "benchmark": "serve",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": asdict(load),
        "bound_s": bound,
        "admission": admission,
        "workers": workers or 2,
        "glossary": glossary.name if glossary else None,
        "recordings": [path.name for path in manifests or ()] or ["bundled"],
        "machine": asdict(Machine.of(find_device("cpu"))),
    }
