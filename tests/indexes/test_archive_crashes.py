"""A writer may be killed at any moment: what was acknowledged stays, what was not is old or new, never between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from archive_samples import video_id
from writer_process import VIDEOS, commit_rounds, loop_index

from hybrid.errors import HybridError
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.stores.vectors import hash_vectors, round_vectors
from tests.forked import fork_server

SCRIPT = Path(__file__).with_name("writer_process.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # the script forks, which OpenMP's threads would not survive
KILLS = 10


def kill_in_round(folder: Path, first: int, last: int, chance: random.Random) -> None:
    """Let a writer work from round ``first`` on, and kill it somewhere in the round ``last``, or just after it."""
    mine, theirs = fork_server().Pipe(duplex=False)
    writer = fork_server().Process(target=commit_rounds, args=(theirs, str(folder), first, last - first + 1))
    writer.start()
    theirs.close()
    said, started, took = ("", first), time.perf_counter(), 0.02
    while said != ("begin", last):
        said = mine.recv()  # EOFError: the writer ended by itself; its error is above
        started, took = time.perf_counter(), time.perf_counter() - started
    time.sleep(chance.uniform(0, 1.2 * took))
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    with pytest.raises(EOFError):
        mine.recv()
    mine.close()


def vectors_hash(number: int) -> str:
    return hash_vectors(round_vectors(loop_index(number)["vectors"]))


def test_nothing_acknowledged_is_lost_when_writers_are_killed(tmp_path: Path, backend: str) -> None:
    chance = random.Random(20)
    folder = tmp_path / "archive"
    Archive.open(folder, backend=backend).close()
    holds: dict[int, int] = {}  # video -> round whose index it must hold
    following = 0
    for _ in range(KILLS):
        begun = following + chance.randrange(4)
        kill_in_round(folder, following, begun, chance)
        holds.update({number % VIDEOS: number for number in range(following, begun)})
        with Archive.open(folder, create=False) as archive:
            # Not acknowledged: the old index or the new one.
            manifest = archive.manifest(video_id(begun % VIDEOS))
            if manifest is not None and manifest.vectors_hash == vectors_hash(begun):
                holds[begun % VIDEOS] = begun
            for video, number in holds.items():
                assert archive.verify(video_id(video)).vectors_hash == vectors_hash(number)
            assert {int(manifest.video_id, 16) for manifest in archive.manifests()} == set(holds)
        following = begun + 1
    assert_the_same_as_undisturbed(folder, tmp_path / "undisturbed", backend)


def assert_the_same_as_undisturbed(folder: Path, other: Path, backend: str) -> None:
    """Doing the work again ends in the very bytes that an archive has which nothing ever happened to."""
    with Archive.open(folder) as archive, Archive.open(other, backend=backend) as reference:
        for number in range(VIDEOS):
            for target in (archive, reference):
                target.commit(video_id(number), NewIndex(**loop_index(number)))
            one, two = archive.verify(video_id(number)), reference.verify(video_id(number))
            assert (one.generation, one.vectors_hash) == (two.generation, two.vectors_hash)
        assert list(archive.store.keys()) == list(reference.store.keys())
    names = {path.relative_to(other) for path in (other / "videos").rglob("*.*") if path.is_file()}
    assert {path.relative_to(folder) for path in (folder / "videos").rglob("*.*") if path.is_file()} == names
    for name in names:
        if name.name != "manifest.json":
            assert (folder / name).read_bytes() == (other / name).read_bytes()
    assert list((folder / "pending").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("what", "states", "at_least"),
    [
        ("first", ["none", "index 2"], 10),
        ("replace", ["index 1", "index 2"], 12),
        ("remove", ["index 1", "none"], 8),
    ],
)
def test_dying_before_each_single_change_to_the_file_system(
    tmp_path: Path, what: str, states: list[str], at_least: int
) -> None:
    command = [sys.executable, str(SCRIPT), "steps", str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["code"] for line in lines] == [9] * (len(lines) - 1) + [0]
    assert len(lines) > at_least
    found = [line["found"] for line in lines]
    # First the state before, then, from one step on, the state after: there is one commit point.
    turn = found.index(states[1])
    assert found == [states[0]] * turn + [states[1]] * (len(found) - turn)
    assert turn > 0
    for line in lines:
        assert line["again"] == lines[-1]["again"]
        assert line["files"] == lines[-1]["files"]
        expected = 1 if line["found"] == "none" else 4  # archive.json, manifest, timeline, vectors
        assert len(line["swept"]) == expected, line


def test_garbage_of_a_killed_writer_is_swept_by_a_writer_and_not_by_a_reader(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.commit(video_id(0), NewIndex(**loop_index(0)))
    # A writer that dies between its vectors and its manifest, without any cleaning.
    with monkeypatch.context() as patch:
        patch.setattr("indexes.archive.writer.write_atomically", mock.Mock(side_effect=KeyboardInterrupt))
        patch.setattr(Archive, "_clean", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            archive.commit(video_id(1), NewIndex(**loop_index(1)))
    assert len(list(archive.store.keys())) == 2
    with Archive.open(archive.folder) as reader:
        assert reader.manifest(video_id(1)) is None
        assert [manifest.video_id for manifest in reader.manifests()] == [video_id(0)]
        assert reader.read(video_id(0)).shape == (300, 64)
        assert len(list(reader.store.keys())) == 2
    with Archive.open(archive.folder) as writer, writer.lock(video_id(2)):
        assert [key.video_id for key in sorted(writer.store.keys())] == [video_id(0)]
    with pytest.raises(HybridError):
        archive.require(video_id(1))
