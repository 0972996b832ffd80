"""A worker that holds in the middle of a video, so that what is done to it there is never done too late."""

from __future__ import annotations

import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from hybrid.engine.batch import worker_process
from hybrid.engine.batch.worker_process import EngineRecipe
from indexes.archive import content_id as identity

__all__ = ["work_and_hold", "work_and_read_for_ever"]

_work = worker_process.run_worker


class _Holding(worker_process._Reporter):
    """Tells that a video's frames are about to be decoded and embedded, and goes no further."""

    def __init__(self, held: str, connection: Connection) -> None:
        super().__init__(connection)
        self._held, self._video = held, ""

    def start(self, video: str) -> None:
        self._video = video
        super().start(video)

    def stage(self, name: str) -> None:
        super().stage(name)
        if name == "embed" and self._video.endswith(self._held):
            time.sleep(3600)


def work_and_hold(held: str, recipe: EngineRecipe, connection: Connection, threads: int | None) -> None:
    """In place of the worker's own: it stays in the video whose path ends with ``held``."""
    worker_process._Reporter = partial(_Holding, held)  # type: ignore[misc, assignment]
    _work(recipe, connection, threads)


def work_and_read_for_ever(stuck: str, recipe: EngineRecipe, connection: Connection, threads: int | None) -> None:
    """In place of the worker's own: reading the video whose path ends with ``stuck`` has no end, as on a lost disk."""
    content_id = identity.content_id

    def reading(place: Path) -> str:
        if place.name.endswith(stuck):
            time.sleep(3600)
        return content_id(place)

    identity.content_id = reading
    _work(recipe, connection, threads)
