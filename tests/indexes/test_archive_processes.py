"""Several processes at one archive: writers of one video take turns, readers are never held up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from archive_samples import some_index, video_id
from writer_process import VIDEOS, commit_rounds, loop_index

from hybrid.errors import ArchiveLockedError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.stores.vectors import hash_vectors, round_vectors
from tests.forked import fork_server

SCRIPT = Path(__file__).with_name("writer_process.py")
ONE, TWO = video_id(1), video_id(2)


@contextmanager
def script(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def vectors_hash(number: int) -> str:
    return hash_vectors(round_vectors(loop_index(number)["vectors"]))


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_works_the_other_is_told_or_waits(archive: Archive) -> None:
    archive.commit(ONE, NewIndex(**some_index(1)))
    with script("hold", str(archive.folder), ONE) as other:
        assert line(other) == "held"
        with pytest.raises(ArchiveLockedError, match=r"is being written by another process \(waited 0 s\)"):
            archive.commit(ONE, NewIndex(**some_index(2)))
        started = time.perf_counter()
        with pytest.raises(ArchiveLockedError, match=r"waited 0\.2 s"), archive.lock(ONE, timeout=0.2):
            pass
        assert time.perf_counter() - started >= 0.2
        # Readers and writers of other videos are not held up.
        assert archive.verify(ONE).frames == len(archive.timeline(ONE)) == 40
        archive.commit(TWO, NewIndex(**some_index(2)))
        assert other.stdin is not None
        threading.Timer(0.3, other.stdin.close).start()
        with archive.lock(ONE, timeout=250):
            archive.commit(ONE, NewIndex(**some_index(2)))
    assert archive.verify(ONE)


def test_a_killed_holder_holds_no_longer(archive: Archive) -> None:
    with script("hold", str(archive.folder), ONE) as other:
        assert line(other) == "held"
        other.kill()
        other.wait()
        archive.commit(ONE, NewIndex(**some_index(1)))


def test_two_writers_of_the_same_videos_and_a_reader(archive: Archive) -> None:
    for number in range(VIDEOS):
        archive.commit(video_id(number), NewIndex(**loop_index(number)))
    folder, rounds, server = str(archive.folder), 9, fork_server()
    writers, said = [], {}
    for first in (0, 100):
        mine, theirs = server.Pipe(duplex=False)
        writers.append(server.Process(target=commit_rounds, args=(theirs, folder, first, rounds)))
        writers[-1].start()
        theirs.close()
        said[mine] = ("", first)
    ends = {("done", rounds - 2), ("done", 100 + rounds - 2)}
    try:
        while working := [mine for mine, last in said.items() if last not in ends and last[0] != "refused"]:
            for number in range(VIDEOS):
                query = loop_index(number)["vectors"][0]
                assert len(archive.search(video_id(number), query, 5)) == 5
            for mine in wait(working, timeout=0):
                said[mine] = mine.recv()  # type: ignore[index, union-attr]
    finally:
        for writer, mine in zip(writers, said, strict=True):
            writer.kill()
            writer.join()
            mine.close()
    # A writer that met the other's lock was told so and ended; the one that was left did its rounds.
    assert ends & set(said.values())
    expected = {vectors_hash(number) for first in (0, 100) for number in range(first, first + rounds)}
    with Archive.open(folder) as after:
        for number in range(VIDEOS):
            assert after.verify(video_id(number)).vectors_hash in expected


def test_threads_of_one_process_exclude_each_other_and_one_thread_may_nest(archive: Archive) -> None:
    refused = []

    def attempt() -> None:
        try:
            archive.commit(ONE, NewIndex(**some_index(2)))
        except ArchiveLockedError:
            refused.append(True)

    with archive.lock(ONE), archive.lock(ONE):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        archive.commit(ONE, NewIndex(**some_index(1)))
    assert refused == [True]
    attempt()
    assert refused == [True]
    assert archive.verify(ONE)
