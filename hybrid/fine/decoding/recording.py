"""Whether a model's steps can be recorded on its device: asked once, when it is loaded."""

from __future__ import annotations

import importlib.util

import torch

from hybrid.fine.decoding.options import fits_tiles

__all__ = ["why_not_recorded"]


def why_not_recorded(device: torch.device, *, group: int, width: int, dtype: torch.dtype) -> str | None:
    """What stands in the way of recorded steps, or None.

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
    from hybrid.fine.decoding.fused_kernels import add_norm

    state, weight = torch.ones(1, 16, device=device, dtype=dtype), torch.ones(16, device=device, dtype=dtype)
    add_norm(state, None, weight, epsilon=1e-6)
    torch.cuda.synchronize(device)
