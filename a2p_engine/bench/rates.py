"""What the device can do at best: the floor under every figure."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from a2p_engine.bench.clock import Clock

RUNS = 9
# Far beyond the caches, and large enough for a product to run at full speed.
COPY_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}
PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured rates of a device.

    Attributes:
        copy_bytes_per_s: of a large copy, bytes read and bytes written both counted.
        matmul_flop_per_s: of a large square matrix product.
        matmul_dtype: of that product, the one the scorer keeps its queries in.
        matmul_size: rows and columns of that product.
    """

    copy_bytes_per_s: float
    matmul_flop_per_s: float
    matmul_dtype: str
    matmul_size: int

    @classmethod
    def measure(cls, clock: Clock) -> Rates:
        """Medians of some runs."""
        kind = clock.device.type
        dtype, size = DTYPE[kind], PRODUCT_SIZE[kind]
        return cls(
            copy_bytes_per_s=_copy_rate(clock, COPY_BYTES[kind]),
            matmul_flop_per_s=_matmul_rate(clock, size, dtype),
            matmul_dtype=str(dtype).removeprefix("torch."),
            matmul_size=size,
        )


def _copy_rate(clock: Clock, size: int) -> float:
    source = torch.ones(size // 4, device=clock.device)
    target = torch.empty_like(source)
    timing = clock.time(lambda _: target.copy_(source), RUNS)
    return 2 * source.nbytes / (1e-3 * timing.device_p50_ms)


def _matmul_rate(clock: Clock, size: int, dtype: torch.dtype) -> float:
    left, right, product = torch.randn(3, size, size, device=clock.device).to(dtype)
    timing = clock.time(lambda _: torch.mm(left, right, out=product), RUNS)
    return 2 * float(size) ** 3 / (1e-3 * timing.device_p50_ms)
