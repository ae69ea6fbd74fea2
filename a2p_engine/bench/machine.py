"""The machine that is measured: what it is, and how much memory it has."""

from __future__ import annotations

import os
import platform
import re
import resource
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from a2p_engine.errors import InputError

PACKAGES = ("torch", "numpy", "numba", "triton")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What results depend on besides the code.

    Attributes:
        device: type of the device that scores: cpu or cuda.
        name: of that device.
        memory_bytes: of that device.
        cores: that this process may use.
        threads: that torch and the CPU kernels use.
        versions: of Python, of the packages that compute, and of CUDA.
    """

    device: str
    name: str
    memory_bytes: int
    cores: int
    threads: int
    versions: dict[str, str]

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """Ask system and libraries."""
        on_cuda = device.type == "cuda"
        return cls(
            device=device.type,
            name=torch.cuda.get_device_name(device) if on_cuda else _processor(),
            memory_bytes=torch.cuda.mem_get_info(device)[1] if on_cuda else _meminfo("MemTotal"),
            cores=cores(),
            threads=torch.get_num_threads(),
            versions=_versions(on_cuda),
        )


def find_device(name: str) -> torch.device:
    """The device for ``cpu``, ``cuda`` or ``auto``.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device cuda: torch {torch.__version__} finds no CUDA device here")
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("cpu")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def available_bytes(device: torch.device) -> int:
    """Memory on the device that is still to be had."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    return min(_meminfo("MemAvailable"), _control_group_bytes())


def peak_resident_bytes() -> int:
    """Most main memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_device_bytes(device: torch.device) -> int | None:
    """Most GPU memory in use since the last call; None on CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def _control_group_bytes() -> int:
    """What a container may still take; more than anything where there is no limit."""
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return 1 << 62
    return max(limit - _status("VmRSS"), 0)


def _meminfo(field: str) -> int:
    return _kilobytes(Path("/proc/meminfo"), field)


def _status(field: str) -> int:
    return _kilobytes(Path("/proc/self/status"), field)


def _kilobytes(path: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB", path.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _versions(on_cuda: bool) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if on_cuda:
        versions["cuda"] = str(torch.version.cuda)
    return versions
