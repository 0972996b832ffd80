"""Workers that end: with a certain video, as a decoder that crashes would end them, or between two videos."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hybrid.engine.batch import worker_process
from hybrid.engine.batch.worker_process import EngineRecipe
from hybrid.engine.frames import decode_ahead
from hybrid.frames.interface import FrameSource
from hybrid.frames.registry import open_source

__all__ = ["work_and_die", "work_and_die_between"]

_work = worker_process.run_worker


def work_and_die(deadly: str, recipe: EngineRecipe, connection: Connection, threads: int | None) -> None:
    """In place of the worker's own: it ends with the video whose path ends with ``deadly``."""

    def opening(path: Path, *arguments: Any, **options: Any) -> FrameSource:
        if path.name == deadly:
            os._exit(7)
        return open_source(path, *arguments, **options)

    decode_ahead.open_source = opening
    _work(recipe, connection, threads)


class _LastWords:
    """A connection with which the process ends once it has said how a video ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.recv = connection.recv

    def send(self, message: tuple[str, object]) -> None:
        self._connection.send(message)
        if message[0] == "outcome":
            os._exit(7)


def work_and_die_between(recipe: EngineRecipe, connection: Connection, threads: int | None) -> None:
    """In place of the worker's own: it ends with each video that it has done."""
    _work(recipe, _LastWords(connection), threads)  # type: ignore[arg-type]
