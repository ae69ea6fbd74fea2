"""Workers: what they do, how they fail, when they end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from a2p_engine.errors import TrainingError
from a2p_engine.training.workers import run_side_by_side

_out = Path()


def start(out: Path, excuse: str | None = None) -> None:
    """Remember where to write, or fail for that reason."""
    global _out
    if excuse:
        raise TrainingError(excuse)
    _out = out


def write(number: int) -> None:
    """Leave a file; negative numbers fail."""
    if number < 0:
        raise TrainingError(f"{number} is negative")
    (_out / str(number)).write_text(os.environ["OMP_NUM_THREADS"])


def write_for_ever(number: int) -> None:
    """Say that work has begun, and never end."""
    write(number)
    time.sleep(600)


def _run(items: list[int], *arguments: object) -> None:
    run_side_by_side(write, items, start=start, arguments=arguments, processes=2, unit="file")


def test_each_item_is_worked_on_once_with_one_thread(tmp_path: Path) -> None:
    """All items are done when the call returns."""
    _run([3, 1, 2], tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("123", "1")


def test_the_first_error_ends_the_work(tmp_path: Path) -> None:
    """Its own text arrives, and what was not begun is not done."""
    with pytest.raises(TrainingError, match="-1 is negative"):
        _run([-1, *range(5_000)], tmp_path)
    assert len(list(tmp_path.iterdir())) < 5_000


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Not that some process ended, but for which reason."""
    with pytest.raises(TrainingError, match="no voices here"):
        _run([1, 2, 3], tmp_path, "no voices here")
    assert list(tmp_path.iterdir()) == []


def test_workers_end_with_a_killed_program(tmp_path: Path) -> None:
    """Nothing holds the program's output open once it is gone, however busy its workers were."""
    script = (
        "import sys, pathlib\n"
        "from a2p_engine.training.workers import run_side_by_side as run\n"
        "from tests.a2p_engine.training.test_workers import start, write_for_ever\n"
        "out = (pathlib.Path(sys.argv[1]),)\n"
        "run(write_for_ever, [1, 2], start=start, arguments=out, processes=2, unit='file')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        while len(list(tmp_path.iterdir())) < 2:
            assert program.poll() is None
            time.sleep(0.05)
        program.kill()
        program.communicate(timeout=20)
