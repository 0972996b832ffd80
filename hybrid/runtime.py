"""What every model needs before it can be loaded: a device, a precision, and a torchvision that imports.

Knows nothing of any particular model. torch is imported inside the functions, so that importing
this module costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.errors import HybridError, InputError, ModelError, OutOfMemoryError, first_line

if TYPE_CHECKING:
    import torch

__all__ = [
    "as_model_error",
    "choose_device",
    "choose_dtype",
    "dtype_name",
    "ensure_torchvision",
    "free_host_bytes",
    "model_errors",
    "out_of_memory_as_error",
    "settle_process",
    "timed",
]

DTYPE_NAMES = ("float32", "bfloat16", "float16")

# How torch, the CUDA driver and cuBLAS say it when it is no OutOfMemoryError of theirs.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")

# What model libraries raise, besides their lack of memory.
_FOREIGN = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, MemoryError)

# Of a control group: its limit, what it uses, and how its file cache is called in memory.stat. Versions 2 and 1.
_GROUP_FILES = ("memory.max", "memory.current", ("active_file", "inactive_file"))
_OLD_GROUP_FILES = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))

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


def as_model_error(error: Exception, what: str) -> Exception:
    """A foreign error of a model library as a :class:`~hybrid.errors.ModelError`; any other error as it is."""
    if isinstance(error, _FOREIGN) and not isinstance(error, HybridError):
        return ModelError(f"{what} failed: {first_line(error)}")
    return error


@contextmanager
def model_errors(what: str) -> Iterator[None]:
    """Turn what a model library raises while it computes into errors of ours.

    Raises:
        OutOfMemoryError: the device's memory does not suffice.
        ModelError: any other error of the library; ``what`` failed.
    """
    try:
        with out_of_memory_as_error(what):
            yield
    except _FOREIGN as exc:
        if isinstance(exc, HybridError):
            raise
        raise as_model_error(exc, what) from exc


@contextmanager
def timed(seconds: dict[str, float], part: str, device: torch.device) -> Iterator[None]:
    """Add the time of a block to ``seconds[part]``, with the device's queue drained at its end."""
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started


def _head(error: BaseException) -> str:
    return (str(error).splitlines() or ["out of memory"])[0]


def free_host_bytes(*, root: Path = Path("/")) -> int | None:
    """Memory that this process can still get without swapping; None where the system does not tell.

    The least of what the machine has and of what the process's control groups leave it: in a
    container, whose limit the machine's own numbers do not show, going beyond it gets the process
    killed. Cached files count as free, because they give way.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    bounds = [bound for bound in (_available(root), *_left_in_groups(root)) if bound is not None]
    return max(0, min(bounds)) if bounds else None


def _available(root: Path) -> int | None:
    words = _table(root / "proc" / "meminfo").get("MemAvailable:")
    return None if words is None else 1024 * words


def _left_in_groups(root: Path) -> Iterator[int | None]:
    """What the process's group and each group around it leave; None for one without a limit."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root / "sys" / "fs" / "cgroup" / ("memory" if controllers else "")
        # A container may see the path that its group has outside, but only the groups from its own on.
        folder = base / path.strip("/")
        names = _OLD_GROUP_FILES if controllers else _GROUP_FILES
        yield from (_left(place, *names) for place in (folder, *folder.parents) if place.is_relative_to(base))


def _left(folder: Path, limit: str, used: str, cached: tuple[str, ...]) -> int | None:
    try:
        held = int("".join(_lines(folder / limit))) - int("".join(_lines(folder / used)))
    except ValueError:  # "max", or no such file
        return None
    numbers = _table(folder / "memory.stat")
    return held + sum(numbers.get(name, 0) for name in cached)


def _table(path: Path) -> dict[str, int]:
    """A file with a name and a number a line."""
    pairs = [line.split()[:2] for line in _lines(path)]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []


def settle_process() -> None:
    """Settings of the command line's own process; has to come before torch and transformers are imported.

    The model libraries must not write over the command line's output, and what they log, often with names of files,
    must not command the terminal. And torch's threads must
    sleep, not spin, while they wait for each other: decoding runs beside them, and spinning
    threads took half as long again to embed a video on two cores (docs/log.md).
    """
    from hybrid.output import guard_output

    guard_output()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
