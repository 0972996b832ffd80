"""Run command lines in processes that have the heavy modules in memory, and take down what each took."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

__all__ = ["Outcome", "Runner"]

LIMIT_SECONDS = 90.0
_SPARE_BYTES = 5 * 2**29
"""How much a command may allocate beyond what it starts with, so that a bomb does not take the machine down."""

_CRASHED = 70


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code; negative: the number of the signal that killed it.
        seconds: from its start to its end.
        peak_mb: the largest resident memory that it had, with what it started with.
        output: standard output and standard error.
    """

    code: int
    seconds: float
    peak_mb: float
    output: str

    @property
    def has_traceback(self) -> bool:
        """Whether somebody would have seen one, or the process died of it."""
        return "Traceback (most recent call last)" in self.output or self.code == _CRASHED or self.code < 0


class Runner:
    """Runs commands, one after the other."""

    def __init__(self) -> None:
        self._server: ForkServerContext = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(["bench.robustness.preloaded"])

    def run(self, command: Sequence[str], folder: Path) -> Outcome:
        """Run a command in a folder; it is killed after :data:`LIMIT_SECONDS`."""
        output, record = folder / "output.txt", folder / "record.json"
        record.unlink(missing_ok=True)
        process = self._server.Process(target=_child, args=(list(command), str(folder), str(output), str(record)))
        started = time.monotonic()
        process.start()
        process.join(LIMIT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        seconds = time.monotonic() - started
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        took = json.loads(record.read_bytes()) if record.exists() else {"seconds": seconds, "peak_mb": 0.0}
        return Outcome(process.exitcode or 0, took["seconds"], took["peak_mb"], text)


def _child(command: list[str], folder: str, output: str, record: str) -> None:
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    _limit_memory()
    started = time.monotonic()
    code = _CRASHED
    try:
        code = _run(command)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(record).write_text(json.dumps({"seconds": time.monotonic() - started, "peak_mb": peak}), encoding="ascii")
    os._exit(code)


def _run(command: list[str]) -> int:
    if command[0] == "dataset":
        from bench.accuracy.__main__ import main as benchmark

        return benchmark(command[1:])
    from hybrid.cli import main as command_line

    sys.argv = ["hybrid", *command]
    command_line()
    return 0


def _limit_memory() -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        data = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + _SPARE_BYTES, resource.RLIM_INFINITY))
