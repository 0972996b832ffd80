"""The process of a worker: it indexes the videos that its parent sends, one at a time, and reports what it does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from hybrid.engine.batch.run import index_one
from hybrid.errors import HybridError
from hybrid.options.engine import EngineOptions

__all__ = ["EngineRecipe", "run_worker"]

_REPORT_SECONDS = 0.25
"""Small steps are reported together, at most this often."""


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """What a worker opens its engine with.

    Attributes:
        archive: folder of an archive that exists.
        settings: that have been checked.
        features: as in :meth:`hybrid.engine.engine.Engine.index`.
        retry_failed: whether videos that failed before are tried again.
    """

    archive: str
    settings: EngineOptions
    features: bool | None = None
    retry_failed: bool = False


def run_worker(recipe: EngineRecipe, connection: Connection, threads: int | None) -> None:
    """Index the videos that come through the connection, until None comes.

    Args:
        recipe: what the engine is opened with.
        connection: to the parent. What it is sent: ``("ready", None)`` once, then for each video ``("begun", None)``,
            ``("size", bytes)``, ``("progress", (method, arguments))`` and ``("outcome", VideoOutcome)``; or
            ``("stop", error)`` for an error that ends the run.
        threads: for torch; None: its own choice.
    """
    # Ctrl-C reaches the whole group of processes; it is the parent that acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    from hybrid.runtime import settle_process

    settle_process()
    from hybrid.engine.engine import Engine
    from indexes.open_archive import open_archive

    progress = _Reporter(connection)
    with Engine(open_archive(recipe.archive), recipe.settings) as engine:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        connection.send(("ready", None))
        while (task := connection.recv()) is not None:
            video, following, wait_seconds = task
            connection.send(("begun", None))
            connection.send(("size", _size_of(Path(video))))
            try:
                outcome = index_one(
                    engine,
                    Path(video),
                    progress,
                    following=[Path(each) for each in following],
                    features=recipe.features,
                    retry_failed=recipe.retry_failed,
                    lock_seconds=wait_seconds,
                )
            except HybridError as exc:
                exc.__cause__ = exc.__context__ = None  # may not be fit to be sent
                connection.send(("stop", exc))
                return
            connection.send(("outcome", outcome))


def _size_of(video: Path) -> int:
    """How many bytes a file has; 0 for a folder, and where it cannot be looked at."""
    with contextlib.suppress(OSError):
        if video.is_file():
            return video.stat().st_size
    return 0


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on writing beside the next run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="hybrid-parent", daemon=True).start()


class _Reporter:
    """Progress that goes to the parent, the many small steps gathered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames = 0
        self._reported = 0.0

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._send("start", video)

    def expect(self, frames: int | None) -> None:
        """How many samples there are."""
        self._send("expect", frames)

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._report()
        self._send("stage", name)

    def advance(self, frames: int) -> None:
        """So many more samples."""
        self._frames += frames
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._report()

    def finish(self, outcome: str) -> None:
        """Work on the video has ended."""
        self._report()
        self._send("finish", outcome)

    def _report(self) -> None:
        frames, self._frames, self._reported = self._frames, 0, time.monotonic()
        if frames:
            self._send("advance", frames)

    def _send(self, name: str, *arguments: object) -> None:
        try:
            self._connection.send(("progress", (name, arguments)))
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(1)  # nobody listens any more
