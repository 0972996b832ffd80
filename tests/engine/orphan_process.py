"""Run by a test, to be killed: a process with a worker that does nothing. Prints the worker's process id."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from hybrid.engine.batch.worker_process import _end_with_parent


def work(told: Connection) -> None:
    """Wait for the end of the parent, and no longer."""
    _end_with_parent()
    told.send(os.getpid())
    time.sleep(600)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    print(mine.recv(), flush=True)
    process.join()
