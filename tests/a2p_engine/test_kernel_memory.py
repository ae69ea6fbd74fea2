"""Memory over windows of ever new lengths."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from a2p_engine.kernel_memory import CAPACITY, CAPACITY_VARIABLE, bound_kernels

# Without the bound, 100 further lengths cost 47 MB and more; with it, the heap still goes up and
# down by ten.
ALLOWED_BYTES = 20_000_000
GROW = f"""
import numpy as np
from a2p_engine import models
from a2p_engine.encoders.whisper import WhisperEncoder

def resident_pages():
    return int(open("/proc/self/statm").read().split()[1])

encoder = WhisperEncoder(models.find("whisper-base"), device="cpu")

def hear(first, last):
    for frames in range(first, last):
        encoder.encode(np.zeros(encoder.hop_samples * frames, np.float32))

encoder.encode(np.zeros(32_000, np.float32))
hear(1, {CAPACITY} // 2)
before = resident_pages()
hear({CAPACITY} // 2, {CAPACITY} // 2 + 100)
print(resident_pages() - before)
"""


def test_windows_of_new_lengths_cost_no_memory() -> None:
    """A process that has heard a few lengths hears a hundred others with the memory it has."""
    environment = {key: value for key, value in os.environ.items() if key != CAPACITY_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", GROW], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * os.sysconf("SC_PAGE_SIZE") < ALLOWED_BYTES


def test_a_capacity_of_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets the library's variable knows why."""
    monkeypatch.setenv(CAPACITY_VARIABLE, "7")
    bound_kernels()
    assert os.environ[CAPACITY_VARIABLE] == "7"
