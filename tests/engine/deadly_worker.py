"""A worker whose process ends when a certain video is opened, as a decoder that crashes would end it."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hybrid.engine import decoding, workers
from hybrid.frames.source import FrameSource, open_source

__all__ = ["work_and_die"]

_work = workers._work


def work_and_die(deadly: str, recipe: workers.EngineRecipe, connection: Connection, threads: int | None) -> None:
    """In place of the worker's own: it ends with the video whose path ends with ``deadly``."""

    def opening(path: Path, *arguments: Any, **options: Any) -> FrameSource:
        if path.name == deadly:
            os._exit(7)
        return open_source(path, *arguments, **options)

    decoding.open_source = opening
    _work(recipe, connection, threads)
