"""A short run of the fuzzer on every dialect, and a proof that it finds what it looks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming.dialects import DIALECTS

ROOT = Path(__file__).parents[2]
RUNS = 4000

BROKEN = """
import sys
from streaming.dialects.native import Native
from tests.fuzz import dialects

class Broken(Native):
    def receive_text(self, text):
        if "vad" in text:
            raise KeyError(text)
        return super().receive_text(text)

dialects.main([sys.argv[0], "-", *sys.argv[1:]], lambda handshake: Broken(dialects.OFFER))
"""


def fuzz(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer in a folder of its own, where it leaves what made it fail."""
    return subprocess.run(
        # libFuzzer takes the memory of whoever started it for its own, so it gets no limit.
        [sys.executable, *command, f"-runs={RUNS}", "-seed=1", "-verbosity=0", "-rss_limit_mb=0"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


@pytest.mark.parametrize("path", DIALECTS)
def test_nothing_but_protocol_errors_comes_out(path: str, tmp_path: Path) -> None:
    """Whatever a client sends and a session tells, the core answers or refuses it in words."""
    done = fuzz(tmp_path, "-m", "tests.fuzz.dialects", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fuzzer_finds_a_fault(tmp_path: Path) -> None:
    """A core that lets another exception through is caught."""
    done = fuzz(tmp_path, "-c", BROKEN)
    assert done.returncode != 0 and "KeyError" in done.stdout + done.stderr
    assert list(tmp_path.glob("crash-*"))


def test_an_unknown_dialect_is_a_clear_error(tmp_path: Path) -> None:
    """The paths that can be fuzzed are named."""
    done = fuzz(tmp_path, "-m", "tests.fuzz.dialects", "/nowhere")
    assert done.returncode != 0 and "PATH is one of /ws" in done.stderr
