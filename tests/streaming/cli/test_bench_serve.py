"""``a2p bench serve``: options that cannot be used, and the tables and JSON it gives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from streaming.bench.levels import Level, Load
from streaming.cli import bench_serve, local_server, main
from streaming.cli.local_server import Local
from streaming.settings import ServerSettings, named_glossary


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sessions", "0"], "--sessions 0: takes 1 or more"),
        (["--sessions", "x"], "--sessions x: takes whole numbers separated by commas"),
        (["--url", "ws://h/ws", "--idle", "3"], "need a server of its own"),
        (["--url", "ws://h/ws", "--workers", "3"], "need a server of its own"),
        (["--url", "ws://h/ws", "--admission", "measured"], "need a server of its own"),
        (["--picture", "/missing/a.png"], "cannot write /missing/a.png: there is no such"),
        (["--manifest", "/missing.jsonl"], "cannot read manifest /missing.jsonl"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and no server was started."""
    assert main(["bench", "serve", *options]) == 1
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def _level(sessions: int, p95: float) -> Level:
    final = {"p50": 0.6, "p95": p95, "p99": p95, "n": 10}
    return Level(
        sessions=sessions, refused=0, failed=(), speech_s=10.0, first_partial_s=None,
        final_s=final, lag_s=final, partials_per_s=1.5, normalized_erasure=0.2, finals=10,
        lost=0, repeated=0,
    )  # fmt: skip


def test_capacity_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """JSON alone on standard output; table and capacity beside it; the picture is drawn."""

    async def rising(*_: Any) -> list[Level]:
        return [_level(1, 0.8), _level(4, 1.2), _level(6, 2.4)]

    monkeypatch.setattr(bench_serve, "_levels", rising)
    picture = tmp_path / "a.png"
    options = ["--url", "ws://unused/ws", "--json", "--picture", str(picture)]
    assert main(["bench", "serve", *options]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["capacity"], report["bound_reached"]) == (4, True)
    assert [each["sessions"] for each in report["levels"]] == [1, 4, 6]
    assert report["load"] == asdict(Load())
    assert "capacity: 4 sessions" in captured.err and "final p50" in captured.err
    assert picture.stat().st_size > 1000


def test_glossary_and_admission_reach_the_server_and_the_clients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The server offers the file under its name and may refuse; clients ask for that name."""
    terms = tmp_path / "ward.txt"
    terms.write_text("apixaban\n")
    chosen: list[ServerSettings] = []
    loads: list[Load] = []

    @contextmanager
    def local(options: Sequence[str]) -> Iterator[Local]:
        given = dict(zip(options[::2], options[1::2], strict=True))
        name, path = named_glossary(given["--glossary"])
        config = Path(given["--config"])
        chosen.append(ServerSettings.load(config, glossaries={name: path}))
        yield Local("ws://unused/ws", os.getpid())

    async def rising(
        _url: str, _meter: Any, _speech: Any, _numbers: Any, load: Load, _bound: Any
    ) -> list[Level]:
        loads.append(load)
        return [_level(1, 0.8)]

    monkeypatch.setattr(local_server, "local_process", local)
    monkeypatch.setattr(bench_serve, "_levels", rising)
    options = ["--glossary", str(terms), "--admission", "measured", "--json"]
    assert main(["bench", "serve", *options]) == 0
    (settings,), (load,) = chosen, loads
    assert settings.admission == "measured"
    assert (settings.glossaries, load.glossary) == ({"ward": terms}, "ward")
    report = json.loads(capsys.readouterr().out)
    assert (report["admission"], report["glossary"]) == ("measured", "ward.txt")


@pytest.mark.parametrize("speech", [[], ["--manifest", "{manifest}"]])
def test_recordings_are_read_as_pcm(speech: list[str], tmp_path: Path) -> None:
    """The bundled one, or those of manifests."""
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.5), 8000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"id": "a", "audio": "a.wav"}\n')
    (recording,) = bench_serve._recordings([manifest] if speech else None)
    assert recording.dtype == np.int16
    assert len(recording) / 16_000 == pytest.approx(1.0 if speech else 22.55, abs=0.01)
