"""Run by the tests as a process of its own, to be killed or to stand in another's way.

As a script:

hold ARCHIVE VIDEO     take a video's lock, say "held", keep it until standard input ends
steps ARCHIVE WHAT     die before the 1st, 2nd, 3rd ... change to the file system, in a child each; say what is left
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from archive_samples import some_index, video_id

from hybrid.errors import ArchiveLockedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive

FOREVER_SECONDS = 3600.0
VIDEOS = 3
ONE = video_id(1)

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


def loop_index(number: int) -> dict[str, Any]:
    """The index that round ``number`` of the loop commits, for video ``number % VIDEOS``."""
    return some_index(number, count=300 + number % 5, dimension=64)


def commit_rounds(told: Connection, folder: str, first: int, rounds: int) -> None:
    """Commit an index in each round, with ("begin", N) said before and ("done", N) after it.

    After the last round nothing is said: the process waits to be killed. So a kill never comes too
    late, however fast the writer is or however long the test is kept from its work. A writer that
    meets another's lock says ("refused", N) and ends.
    """
    with Archive.open(folder, create=False) as archive:
        for number in range(first, first + rounds):
            told.send(("begin", number))
            try:
                archive.commit(video_id(number % VIDEOS), NewIndex(**loop_index(number)))
            except ArchiveLockedError:
                told.send(("refused", number))
                return
            if number < first + rounds - 1:
                told.send(("done", number))
    time.sleep(FOREVER_SECONDS)


def come_and_go(stop: Event, folder: str, videos: int) -> None:
    """Remove videos and index them again, one after another, until told to stop."""
    with Archive.open(folder, create=False) as archive:
        number = 0
        while not stop.is_set():
            video = video_id(number % videos)
            archive.remove(video)
            archive.commit(video, NewIndex(**some_index(number, dimension=16)))
            number += 1


def hold(folder: str, video: str) -> None:
    with Archive.open(folder, create=False).lock(video):
        print("held", flush=True)
        sys.stdin.read()


def steps(folder: str, what: str) -> None:
    """Each step starts from the same archive, in which video 1 has its first index (but for "first")."""
    home = Path(folder)
    pristine = home / "pristine"
    with Archive.open(pristine, backend="faiss") as archive:
        if what != "first":
            archive.commit(ONE, NewIndex(**some_index(1)))
    for step in range(1, 1000):
        place = home / f"step-{step}"
        shutil.copytree(pristine, place)
        child = os.fork()
        if child == 0:
            die_before_change(step, place)
            change(place, what)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        found = state(place)
        with Archive.open(place).lock(ONE):  # the next writer's lock sweeps
            swept = names(place)
        change(place, what)
        line = {
            "step": step,
            "code": code,
            "found": found,
            "swept": swept,
            "again": state(place),
            "files": names(place),
        }
        print(json.dumps(line), flush=True)
        if code != 9:
            return


def change(place: Path, what: str) -> None:
    with Archive.open(place) as archive:
        if what == "remove":
            archive.remove(ONE)
        else:
            archive.commit(ONE, NewIndex(**some_index(2)))


def die_before_change(step: int, place: Path) -> None:
    """End this process, as a kill would, when it is about to make its ``step``-th change below ``place``."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if (writes or event in CHANGES) and str(arguments[0]).startswith(str(place)):
            seen += 1
            if seen == step:
                os._exit(9)

    sys.addaudithook(hook)


def state(place: Path) -> str:
    """Which index the archive holds, each byte of it checked."""
    with Archive.open(place, create=False) as archive:
        if archive.manifest(ONE) is None:
            return "none"
        manifest = archive.verify(ONE)
        seeds = {some_index(seed)["timeline"].duration_seconds: seed for seed in (1, 2)}
        return f"index {seeds[archive.timeline(manifest).duration_seconds]}"


def names(place: Path) -> list[str]:
    """Every file but lock files, and but those in cache/, which count for nothing."""
    found = [path.relative_to(place) for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted(str(path) for path in found if path.parts[0] != "cache")


if __name__ == "__main__":
    verbs: dict[str, Callable[[str, str], None]] = {"hold": hold, "steps": steps}
    verbs[sys.argv[1]](sys.argv[2], sys.argv[3])
