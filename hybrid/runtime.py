"""What every model needs before it can be loaded: a device, a precision, and a torchvision that imports.

Knows nothing of any particular model. torch is imported inside the functions, so that importing
this module costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hybrid.errors import InputError, OutOfMemoryError

if TYPE_CHECKING:
    import torch

__all__ = [
    "choose_device",
    "choose_dtype",
    "dtype_name",
    "ensure_torchvision",
    "out_of_memory_as_error",
    "settle_process",
]

DTYPE_NAMES = ("float32", "bfloat16", "float16")

# How torch, the CUDA driver and cuBLAS say it when it is no OutOfMemoryError of theirs.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")

_kept_alive: list[object] = []


def choose_device(device: str = "auto") -> torch.device:
    """The device to run on: ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        InputError: the device is not known to torch, or CUDA was asked for and is not there.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as exc:
        raise InputError(f"device is {device!r}; legal are 'auto', 'cpu', 'cuda', 'cuda:0' ...") from exc
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device is {device!r}, but this torch ({torch.__version__}) sees no CUDA device; "
            "use --device cpu, or install a CUDA build of torch"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {device!r}; there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of a model's weights: ``auto`` is bfloat16 on CUDA and float32 elsewhere.

    Raises:
        InputError: the name is not a supported precision.
    """
    import torch

    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPE_NAMES:
        raise InputError(f"dtype is {dtype!r}; legal are 'auto', {', '.join(map(repr, DTYPE_NAMES))}")
    chosen = getattr(torch, dtype)
    assert isinstance(chosen, torch.dtype)
    return chosen


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` -> ``float32``."""
    return str(dtype).removeprefix("torch.")


def ensure_torchvision() -> None:
    """Make ``import torchvision`` work beside a CPU-only torch. Call before open_clip or transformers.

    The published torchvision wheels are CUDA builds. Beside a CPU-only torch their compiled part
    cannot load, so that the operators ``nms`` and ``qnms``, which nothing here uses, are unknown
    and the import of the pure Python part fails. Declaring their signatures is enough for it to
    pass. Where torchvision imports as it is, or is not installed, nothing is done.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError as exc:
        if "torchvision::" not in str(exc):
            raise
    else:
        return
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    # The declarations live only as long as the library object does.
    _kept_alive.append(library)
    importlib.import_module("torchvision")


@contextmanager
def out_of_memory_as_error(what: str) -> Iterator[None]:
    """Turn torch's ways of running out of memory into :class:`~hybrid.errors.OutOfMemoryError`."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as exc:
        torch.cuda.empty_cache()
        raise OutOfMemoryError(f"{what}: {_head(exc)}") from exc
    except MemoryError as exc:
        raise OutOfMemoryError(f"{what}: the process is out of memory") from exc
    except RuntimeError as exc:
        if any(sign in str(exc) for sign in _OUT_OF_MEMORY):
            raise OutOfMemoryError(f"{what}: {_head(exc)}") from exc
        raise


def _head(error: BaseException) -> str:
    return (str(error).splitlines() or ["out of memory"])[0]


def settle_process() -> None:
    """Settings of the command line's own process; has to come before torch and transformers are imported.

    The model libraries must not write over the command line's output. And torch's threads must
    sleep, not spin, while they wait for each other: decoding runs beside them, and spinning
    threads took half as long again to embed a video on two cores (docs/log.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
