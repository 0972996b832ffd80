"""How the loop runs: what decides replies, what decides memory and speed, and whether steps can be recorded."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.errors import InputError
from hybrid.runtime import free_host_bytes

if TYPE_CHECKING:
    import torch

__all__ = ["LoopOptions", "fits_tiles", "graphs_unavailable_reason", "prefix_budgets"]

MOST_CPU_BYTES = 4 * 2**30
MOST_HOST_BYTES = 16 * 2**30
UNKNOWN_HOST_BYTES = 4 * 2**30
"""Taken as free where the system does not tell."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Settings of the loop.

    Attributes:
        constrained: only replies of GenS's own form can come out: ``{"11-12": 5, "33": 2}``, valid
            JSON even at the token limit. Off by default, because that is how the published model
            runs; where the model keeps the form by itself both ways give the same reply.
        batch: how many replies are written at once, at most.
        prefix_bytes: memory for the keys and values of windows on the model's device. None: six
            tenths of what is free there on CUDA; on a CPU a quarter of the free memory, 4 GiB at most.
        host_bytes: memory for those that had to leave a CUDA device. None: a quarter of the free
            host memory, 16 GiB at most; without CUDA none.
        graphs: replay decoding steps as CUDA graphs with the kernels of
            :mod:`hybrid.fine.decoding.shared_prefix_attention`; without them a warm question took twelve
            times as long on an H200 (``bench/results/fine_cuda.json``). None: wherever they can run, which takes CUDA,
            Triton, and heads that the kernels have tiles for. True: refuse to run without them.

    Raises:
        InputError: a value is not legal.
    """

    constrained: bool = False
    batch: int = 32
    prefix_bytes: int | None = None
    host_bytes: int | None = None
    graphs: bool | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 256:
            raise InputError(f"batch is {self.batch}; it must be from 1 to 256")
        for name in ("prefix_bytes", "host_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name} is {value}; it must be 0 or more bytes")


def fits_tiles(*, group: int, width: int) -> bool:
    """Whether the CUDA kernels have tiles for heads of this width, so many of which share a key head."""
    return group in (1, 2, 4, 8, 16) and width >= 16 and width & (width - 1) == 0


def prefix_budgets(options: LoopOptions, device: torch.device) -> tuple[int, int]:
    """Bytes for prefixes on the device and in host memory, with the defaults filled in."""
    import torch

    reported = free_host_bytes()
    free = UNKNOWN_HOST_BYTES if reported is None else reported
    if device.type == "cuda":
        on_device = int(0.6 * torch.cuda.mem_get_info(device)[0])
        on_host = min(MOST_HOST_BYTES, free // 4)
    else:
        on_device, on_host = min(MOST_CPU_BYTES, free // 4), 0
    return (
        on_device if options.prefix_bytes is None else options.prefix_bytes,
        on_host if options.host_bytes is None else options.host_bytes,
    )


def graphs_unavailable_reason(device: torch.device, *, group: int, width: int, dtype: torch.dtype) -> str | None:
    """Why steps cannot be recorded as CUDA graphs on a device; None: they can be.

    Triton compiles its kernels where they run, with the C compiler and the Python headers of that
    machine, which slim images do not have. So one small kernel is tried.

    Args:
        device: of the model.
        group: query heads per key head.
        width: values per head.
        dtype: of the model.
    """
    if device.type != "cuda":
        return f"the model is on {device}, not on a CUDA device"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if not fits_tiles(group=group, width=width):
        return f"the kernels have no tiles for {group} query heads of {width} values per key head"
    try:
        _try_a_kernel(device, dtype)
    except Exception as exc:  # Triton, its compiler and the driver each have errors of their own.
        return f"a first kernel failed ({type(exc).__name__}: {str(exc).strip().splitlines()[0]})"
    return None


def _try_a_kernel(device: torch.device, dtype: torch.dtype) -> None:
    import torch

    from hybrid.fine.decoding.fused_kernels import add_norm

    state, weight = torch.ones(1, 16, device=device, dtype=dtype), torch.ones(16, device=device, dtype=dtype)
    add_norm(state, None, weight, epsilon=1e-6)
    torch.cuda.synchronize(device)
