"""What a process on this machine uses, as the Linux kernel tells it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessMeter:
    """CPU time of a process since the last look, and its memory."""

    def __init__(self, pid: int) -> None:
        """Begin to count."""
        self._directory = Path("/proc") / str(pid)
        self._looked_s, self._spent_s = time.monotonic(), self._cpu_s()

    def cpu_percent(self) -> float:
        """Share of one core since the last call, or since the beginning."""
        now_s, spent_s = time.monotonic(), self._cpu_s()
        share = (spent_s - self._spent_s) / max(now_s - self._looked_s, 1e-9)
        self._looked_s, self._spent_s = now_s, spent_s
        return 100 * share

    def resident_bytes(self) -> int:
        """Main memory in use."""
        return int((self._directory / "statm").read_text().split()[1]) * _PAGE_BYTES

    def _cpu_s(self) -> float:
        # The name, in parentheses, may hold spaces; what follows it are numbers.
        fields = (self._directory / "stat").read_text().rpartition(")")[2].split()
        user, system = fields[11:13]
        return (int(user) + int(system)) / _TICKS_HZ
