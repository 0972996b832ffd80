"""How much memory a process and its children hold, now and at most over a stretch of time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

__all__ = ["most_resident_mb", "resident_mb"]


def resident_mb() -> float:
    """The memory that this process and its children hold now, in MiB."""
    held = 0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            held += process.memory_info().rss
    return held / 2**20


@contextmanager
def most_resident_mb(*, every_seconds: float = 0.02) -> Iterator[list[float]]:
    """The most memory held within the context, in the one element of the list.

    Not the process's peak: loading a checkpoint takes more for a moment than everything after it.
    """
    most, stop = [resident_mb()], threading.Event()

    def watch() -> None:
        while not stop.wait(every_seconds):
            most[0] = max(most[0], resident_mb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()
