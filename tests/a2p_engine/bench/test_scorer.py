"""The whole benchmark on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from a2p_engine.bench import edits, machine, plot, presets, rates, scorer
from a2p_engine.bench.presets import Preset
from a2p_engine.bench.report import Report
from a2p_engine.bench.scorer import Options, run
from a2p_engine.bench.tables import header, sheets
from a2p_engine.errors import InputError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "RUNNING_S", 0.1)
    monkeypatch.setitem(rates.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(rates.PRODUCT_SIZE, "cpu", 64)


def _options(preset: Preset, terms: tuple[int, ...] = (40, 90)) -> Options:
    return Options(
        preset=preset.name, terms=terms, sessions=(1, 2), device="cpu", repeat=2, threads=1
    )


@pytest.fixture
def report(preset: Preset) -> Report:
    """Of two glossaries and two numbers of sessions."""
    return run(_options(preset))


def test_every_step_of_every_configuration_is_there(report: Report) -> None:
    """Three ticks for each number of sessions, one rescore, in order of size."""
    assert [glossary.terms for glossary in report.glossaries] == [40, 90]
    for glossary in report.glossaries:
        assert [(s.name, s.sessions, s.frames, s.settled_frames) for s in glossary.steps] == [
            ("tick 0.5 s", 1, 13, 13),
            ("tick 1 s", 1, 25, 25),
            ("live tick 0.5 s", 1, 38, 13),
            ("tick 0.5 s", 2, 13, 13),
            ("tick 1 s", 2, 25, 25),
            ("live tick 0.5 s", 2, 38, 13),
            ("rescore 30 s", 1, 750, 750),
        ]
    assert report.skipped == []


def test_figures_belong_together(report: Report) -> None:
    """Floors follow from costs and rates, ratios from times, shares from both."""
    for glossary, dense in zip(report.glossaries, report.dense, strict=True):
        for step in glossary.steps:
            assert step.floor_ms == step.cost.floor_ms(report.rates)
            assert step.share_of_floor == pytest.approx(step.floor_ms / step.timing.p50_ms)
            better = max(step.share_of_copy, step.share_of_matmul)
            assert step.share_of_floor == pytest.approx(better)
        tick, rescore = glossary.step("tick 0.5 s"), glossary.step("rescore 30 s")
        assert tick is not None
        assert rescore is not None
        assert dense.timing is not None
        assert dense.to_tick == pytest.approx(dense.timing.p50_ms / tick.timing.p50_ms)
        assert dense.to_rescore == pytest.approx(dense.timing.p50_ms / rescore.timing.p50_ms)
        assert glossary.accuracy.score < 1e-4
        assert glossary.file.bytes > 4 * glossary.terms
        assert min(glossary.file.save_ms, glossary.file.load_ms, glossary.file.fill_ms) > 0
        assert glossary.memory.session_bytes == -(-glossary.tokens // 256) * 256 * 4 * 8


def test_what_does_not_fit_is_left_out_and_named(preset: Preset) -> None:
    """A glossary, or a number of sessions, that would need more memory than is free."""
    free = iter([1 << 40, 1 << 40, 1 << 40, 0, 0])
    report = run(_options(preset), available=lambda device: next(free))
    (glossary,) = report.glossaries
    assert {step.sessions for step in glossary.steps} == {1}
    sessions, terms = report.skipped
    assert "40 terms" in sessions
    assert "sessions: 2: needs 0.0 GB, 0.0 GB are free" in sessions
    assert "90 terms" in terms


def test_a_model_that_does_not_fit_is_an_error(preset: Preset) -> None:
    """Before anything is measured."""
    with pytest.raises(InputError, match=r"preset tiny takes .* are free"):
        run(_options(preset), available=lambda device: 1000)


def test_cuda_needs_cuda(preset: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name, its absence is an error; 'auto' takes the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no CUDA device"):
        run(Options(preset=preset.name, device="cuda"))
    assert machine.find_device("auto").type == "cpu"


@pytest.mark.gpu
def test_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries in bfloat16, times and memory of the device, the same list of steps."""
    small = Preset(name="small", width=128, heads=2, vocabulary=3_000)
    monkeypatch.setitem(presets.PRESETS, small.name, small)
    options = Options(preset=small.name, terms=(90,), sessions=(1, 2), device="cuda", repeat=2)
    report = run(options)
    (glossary,) = report.glossaries
    assert report.machine.device == "cuda"
    assert report.rates.matmul_dtype == "bfloat16"
    assert len(glossary.steps) == 7
    assert all(0 < s.timing.device_p50_ms <= 1.1 * s.timing.p50_ms for s in glossary.steps)
    assert (glossary.memory.peak_device_bytes or 0) > glossary.memory.token_table_bytes
    assert glossary.accuracy.score < 1e-2
    assert report.dense[0].timing is not None


@pytest.mark.parametrize("numbers", [(), (0,), (10, -1), (10**8,)])
def test_sizes_have_bounds(preset: Preset, numbers: tuple[int, ...]) -> None:
    """Of glossaries and of sessions."""
    with pytest.raises(InputError, match="--terms"):
        Options(preset=preset.name, terms=numbers)
    with pytest.raises(InputError, match="--sessions"):
        Options(preset=preset.name, sessions=numbers)


def test_people_and_programs_see_the_same(report: Report) -> None:
    """JSON holds everything; every table has a row of as many cells as columns."""
    plain = json.loads(json.dumps(report.json()))
    assert plain["options"]["repeat"] == 2
    assert plain["machine"]["threads"] == 1
    assert plain["glossaries"][0]["steps"][0]["timing"]["runs"] == 2
    assert any("vocabulary 3,000" in line for line in header(report))
    tables = list(sheets(report))
    assert [len(sheet.rows) for sheet in tables] == [14, 2, 2, 2, 2, 2]
    assert all(len(row) == len(sheet.columns) for sheet in tables for row in sheet.rows)


def test_the_picture_is_a_png(report: Report, tmp_path: Path) -> None:
    """Whatever its name; where it cannot be written, the error names it."""
    path = tmp_path / "ticks"
    plot.draw(report, scorer.TICK, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cannot write"):
        plot.draw(report, scorer.TICK, tmp_path / "absent" / "ticks.png")
