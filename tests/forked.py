"""Processes that can be killed, forked from a server that has the heavy modules in memory.

Starting Python and importing torch takes far longer than the work that is to be interrupted.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.answers import Answer
    from hybrid.cli.display.run_report import RunReport
    from hybrid.cli.input.questions import Question
    from hybrid.engine.batch.run import VideoOutcome

__all__ = ["acknowledged_videos", "fork_server", "run_command", "start_command"]

FOREVER_SECONDS = 3600.0
"""How long a process that holds waits to be killed."""


def fork_server() -> ForkServerContext:
    """A server whose children have the heavy modules. lancedb is not among them: it does not survive a fork."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.forked_modules"])
    return server


def start_command(
    arguments: Sequence[str], output: Path, *, errors: Path | None = None, hold_after: int | None = None
) -> ForkServerProcess:
    """Start ``hybrid ARGUMENTS`` with its output in a file.

    Args:
        arguments: of the command line.
        output: the file for its standard output.
        errors: one for its standard error; if not given, that goes where the server's goes.
        hold_after: the process waits to be killed: ``hybrid index``, when so many videos were indexed
            and said to be, and the next one was indexed but not said to be; ``hybrid ask --out``, when
            so many answers were written to the file, and the next one was found but not written.
            However slow or fast the machine is, a kill then comes between two of them, not after all.
    """
    output.write_bytes(b"")
    files = (str(output), None if errors is None else str(errors))
    # The server keeps the environment that it was started with; a test may have another.
    arguments_of_it = (dict(os.environ), list(arguments), *files, hold_after)
    process = fork_server().Process(target=_command_in, args=arguments_of_it)
    process.start()
    return process


def run_command(arguments: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``hybrid ARGUMENTS`` to its end, as a process of its own; ``folder`` is for its output."""
    output, errors = folder / "stdout.txt", folder / "stderr.txt"
    process = start_command([str(argument) for argument in arguments], output, errors=errors)
    process.join()
    assert process.exitcode is not None
    return subprocess.CompletedProcess(list(arguments), process.exitcode, output.read_text(), errors.read_text())


def acknowledged_videos(output: Path, *, now: bool = False) -> set[str]:
    """Ids of the videos that ``hybrid index --json`` said were done. A line that was cut by a kill says nothing.

    With ``now`` only those that it indexed itself, not those that it found done.
    """
    found = set()
    for line in output.read_text().splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event["event"] == "done" and (not now or event["run_status"] == "done"):
            found.add(event["video_id"])
    return found


def _command_in(
    environment: dict[str, str], arguments: list[str], output: str, errors: str | None, hold_after: int | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _command(arguments, output, errors, hold_after)


def _command(arguments: list[str], output: str, errors: str | None, hold_after: int | None) -> None:
    for descriptor, place in ((1, output), (2, errors)):
        if place is not None:
            with open(place, "wb") as file:
                os.dup2(file.fileno(), descriptor)
    sys.argv = ["hybrid", *arguments]
    from hybrid.cli import main

    if hold_after is not None:
        hold = _hold_answers if arguments[0] == "ask" else _hold_videos
        hold(hold_after)
    main()


def _hold_answers(after: int) -> None:
    from hybrid.cli.input.questions import AnswerFile

    write, written = AnswerFile.add, 0

    def add(file: AnswerFile, question: Question, answer: Answer) -> None:
        nonlocal written
        if written == after:
            time.sleep(FOREVER_SECONDS)
        write(file, question, answer)
        written += 1

    AnswerFile.add = add  # type: ignore[method-assign]


def _hold_videos(after: int) -> None:
    from hybrid.cli.display.run_report import RunReport

    tell, told = RunReport.outcome, 0

    def outcome(report: RunReport, ended: VideoOutcome) -> None:
        nonlocal told
        if ended.status == "done":
            if told == after:
                time.sleep(FOREVER_SECONDS)
            told += 1
        tell(report, ended)

    RunReport.outcome = outcome  # type: ignore[method-assign]
