"""``hybrid index`` in a process that can be killed, started from a server that has torch in memory.

Starting Python and importing torch takes far longer than the work that is to be interrupted.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

__all__ = ["index_server", "start_index"]


def index_server() -> ForkServerContext:
    """A server whose children have the heavy modules. lancedb is not among them: it does not survive a fork."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.engine.preloaded"])
    return server


def start_index(server: ForkServerContext, arguments: list[str], output: Path) -> ForkServerProcess:
    """Start ``hybrid index ARGUMENTS --json`` with its output in a file."""
    process = server.Process(target=_run, args=(arguments, str(output)))
    process.start()
    return process


def _run(arguments: list[str], output: str) -> None:
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
    sys.argv = ["hybrid", "index", *arguments, "--json"]
    from hybrid.cli import main

    main()
