"""Run by the tests as a process of its own, to be killed while it writes features.

As a script:

steps ARCHIVE WHAT    die before the 1st, 2nd, 3rd ... change to the file system, in a child each; say what is left
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from archive_samples import some_index
from feature_samples import some_item, some_items, some_spec
from writer_process import FOREVER_SECONDS, ONE, die_before_change, names

from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive

ROWS = 300
FIRST = [0, 1, 5]
MORE = [2, 6]


def loop_index() -> dict[str, object]:
    """The index of the video that the loop writes features of."""
    return some_index(1, count=ROWS, dimension=8)


def add_rows(told: Connection, folder: str, count: int) -> None:
    """Add one row after another to video 1, from the first that is missing; each is said when it is done.

    Of the last nothing is said: the process waits to be killed.
    """
    with Archive.open(folder, create=False) as archive:
        manifest = archive.require(ONE)
        stored = archive.features(manifest, some_spec())
        present = np.zeros(ROWS, dtype=bool) if stored is None else stored.present
        for number, row in enumerate(np.flatnonzero(~present)[:count].tolist(), start=1):
            archive.add_features(manifest, some_spec(), some_items([row]), timeout=FOREVER_SECONDS)
            if number < count:
                told.send(row)
    time.sleep(FOREVER_SECONDS)


def steps(folder: str, what: str) -> None:
    """Each step starts from the same archive: video 1 with its first index and, but for "first", some features."""
    home = Path(folder)
    pristine = home / "pristine"
    with Archive.open(pristine, backend="faiss") as archive:
        manifest = archive.commit(ONE, NewIndex(**some_index(1)))
        if what != "first":
            archive.add_features(manifest, some_spec(), some_items(FIRST))
    for step in range(1, 1000):
        place = home / f"step-{step}"
        shutil.copytree(pristine, place)
        child = os.fork()
        if child == 0:
            die_before_change(step, place)
            change(place, what)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = state(place)
        with Archive.open(place).lock(ONE):  # the next writer's lock sweeps
            swept = names(place)
        change(place, what)
        line = {
            "code": os.waitstatus_to_exitcode(status),
            "found": found,
            "swept": swept,
            "again": state(place),
            "files": len(names(place)),
        }
        print(json.dumps(line), flush=True)
        if line["code"] != 9:
            return


def change(place: Path, what: str) -> None:
    with Archive.open(place) as archive:
        if what == "drop":
            archive.drop_features(ONE)
        elif what == "staged":
            with archive.stage_features(ONE, some_spec()) as staged:
                staged.add([some_item(row) for row in range(40)])
                archive.commit(ONE, NewIndex(**some_index(1)), features=staged)
        else:
            archive.add_features(archive.require(ONE), some_spec(), some_items(MORE))


def state(place: Path) -> list[int]:
    """Which rows have features; each is what it should be, and the index is whole."""
    with Archive.open(place, create=False) as archive:
        stored = archive.features(archive.verify(ONE), some_spec())
        if stored is None:
            return []
        rows = np.flatnonzero(stored.present)
        found = stored.read(rows)
        assert sorted(found) == rows.tolist(), "a row that is listed is damaged"
        assert all(item.digest == some_item(row).digest for row, item in found.items())
        return sorted(found)


if __name__ == "__main__":
    assert sys.argv[1] == "steps"
    steps(*sys.argv[2:])
