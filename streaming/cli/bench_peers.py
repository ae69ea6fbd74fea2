"""``a2p bench peers``: other live caption servers, measured beside this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streaming.cli import common

if TYPE_CHECKING:
    from streaming.bench.peers import Track
    from streaming.bench.process import ProcessMeter

COLUMNS = (
    "server", "first word p50", "p95", "committed p50", "p95", "behind at the end",
    "erasure", "WER", "CPU %", "MB",
)  # fmt: skip


def peers(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="Recordings to speak; repeatable.", show_default="the bundled one"),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=URL[@PID]",
            help="A running server of another kind (wlk: WhisperLiveKit started with --pcm-input); "
            "with its process id, its CPU time and memory are told. Repeatable.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most recordings.")] = None,
    pause: Annotated[float, typer.Option(min=0.5, help="Seconds of silence between them.")] = 2.0,
    pace: Annotated[float, typer.Option(min=0.1, help="1 is real time.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Speak the same recordings to servers, one server after the other, and compare what is seen.

    No glossary is used, as others have none.
    """
    from a2p_engine.manifest import read_manifest
    from streaming.bench.peers import track_of
    from streaming.demo import RECORDING

    others = [_parsed(text) for text in peer or []]
    recordings = [each for path in manifest or () for each in read_manifest(path)] or [RECORDING]
    track = track_of(recordings[:limit], pause)
    common.note(f"{len(track.utterances)} recordings, {track.duration_s:.0f} s")
    found = {"a2p": _own(track, pace)}
    for kind, url, pid in others:
        found[kind] = _measured(kind, url, pid, track, pace)
    _show(found)
    if as_json:
        print(json.dumps({**_header(track, pause, pace, manifest), "servers": found}, indent=2))


def _parsed(text: str) -> tuple[str, str, int | None]:
    from a2p_engine.errors import InputError
    from streaming.bench.peers import WATCHES

    kind, _, rest = text.partition("=")
    url, _, pid = rest.partition("@")
    if kind not in WATCHES or not url.startswith(("ws://", "wss://")):
        kinds = ", ".join(WATCHES)
        raise InputError(f"--peer {text}: takes KIND=URL[@PID]; KIND is one of {kinds}")
    if pid and not (pid.isdigit() and Path("/proc", pid).is_dir()):
        raise InputError(f"--peer {text}: there is no process {pid}")
    return kind, url, int(pid) if pid else None


def _own(track: Track, pace: float) -> dict[str, Any]:
    from streaming.cli.local_server import local_process

    with local_process() as local:
        return _measured("a2p", local.url, local.pid, track, pace)


def _measured(kind: str, url: str, pid: int | None, track: Track, pace: float) -> dict[str, Any]:
    from streaming.bench.peers import WATCHES, beginning_of, judge
    from streaming.bench.process import ProcessMeter

    common.note(f"{kind}: {url}")
    asyncio.run(WATCHES[kind](url, beginning_of(track), pace))  # loads what is loaded at first use
    meter = None if pid is None else ProcessMeter(pid)
    shown = asyncio.run(WATCHES[kind](url, track, pace))
    return {**judge(track, shown).summary(), **_used(meter)}


def _used(meter: ProcessMeter | None) -> dict[str, float | int | None]:
    if meter is None:
        return {"cpu_percent": None, "resident_bytes": None}
    return {
        "cpu_percent": round(meter.cpu_percent(), 1),
        "resident_bytes": meter.resident_bytes(),
    }


def _show(found: dict[str, dict[str, Any]]) -> None:
    import sys
    from contextlib import redirect_stdout

    with redirect_stdout(sys.stderr):
        common.show_table(COLUMNS, [_row(kind, each) for kind, each in found.items()])


def _row(kind: str, figures: dict[str, Any]) -> list[object]:
    first, committed = figures["first_s"] or {}, figures["committed_s"] or {}
    memory = figures["resident_bytes"]
    values = [
        kind,
        *(first.get(key) for key in ("p50", "p95")),
        *(committed.get(key) for key in ("p50", "p95")),
        *(figures[key] for key in ("late_s", "normalized_erasure", "wer", "cpu_percent")),
        None if memory is None else memory // 2**20,
    ]
    return ["-" if value is None else value for value in values]


def _header(
    track: Track, pause: float, pace: float, manifests: Sequence[Path] | None
) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC, datetime

    from a2p_engine.bench.machine import Machine, find_device

    return {
        "benchmark": "peers",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "utterances": len(track.utterances),
        "audio_s": round(track.duration_s, 1),
        "pause_s": pause,
        "pace": pace,
        "recordings": [path.name for path in manifests or ()] or ["bundled"],
        "machine": asdict(Machine.of(find_device("cpu"))),
    }
