"""A writer of features may be killed at any moment: what was acknowledged stays, and nothing half counts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from feature_process import FIRST, MORE, add_rows, loop_index
from feature_samples import some_item, some_spec
from writer_process import ONE

from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from tests.forked import fork_server

SCRIPT = Path(__file__).with_name("feature_process.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # the script forks, which OpenMP's threads would not survive
KILLS = 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("what", "before", "after", "at_least"),
    [
        ("first", [], MORE, 8),
        ("add", FIRST, sorted(FIRST + MORE), 6),
        ("staged", FIRST, list(range(40)), 12),
        ("drop", FIRST, [], 5),
    ],
)
def test_dying_before_each_single_change_to_the_file_system(
    tmp_path: Path, what: str, before: list[int], after: list[int], at_least: int
) -> None:
    command = [sys.executable, str(SCRIPT), "steps", str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["code"] for line in lines] == [9] * (len(lines) - 1) + [0]
    assert len(lines) > at_least
    found = [line["found"] for line in lines]
    # First the state before, then, from one step on, the state after: there is one commit point.
    turn = found.index(after)
    assert found == [before] * turn + [after] * (len(found) - turn)
    assert turn > 0
    for line in lines:
        assert line["again"] == after
        assert line["files"] == lines[-1]["files"]
        # archive.json, manifest, timeline, vectors; list and values
        assert len(line["swept"]) == (6 if line["found"] else 4), line


def rows_said_before_a_kill(folder: Path, chance: random.Random) -> set[int]:
    """Let a writer add rows and kill it in the middle of one, or just after it; the rows that it said were done."""
    count = chance.randrange(1, 12)
    mine, theirs = fork_server().Pipe(duplex=False)
    writer = fork_server().Process(target=add_rows, args=(theirs, str(folder), count + 1))
    writer.start()
    theirs.close()
    rows, started, took = set(), time.perf_counter(), 0.02
    for _ in range(count):
        rows.add(mine.recv())  # EOFError: the writer ended by itself; its error is above
        took, started = time.perf_counter() - started, time.perf_counter()
    time.sleep(chance.uniform(0, 1.5 * took))
    writer.kill()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    with pytest.raises(EOFError):
        mine.recv()
    mine.close()
    return rows


def test_no_acknowledged_row_is_lost_when_writers_are_killed(tmp_path: Path) -> None:
    chance = random.Random(5)
    folder = tmp_path / "archive"
    with Archive.open(folder) as archive:
        manifest = archive.commit(ONE, NewIndex(**loop_index()))  # type: ignore[arg-type]
    acknowledged: set[int] = set()
    for _ in range(KILLS):
        acknowledged |= rows_said_before_a_kill(folder, chance)
        with Archive.open(folder, create=False) as archive:
            stored = archive.features(manifest, some_spec())
            assert stored is not None
            rows = np.flatnonzero(stored.present)
            assert acknowledged <= set(rows.tolist())
            found = stored.read(rows)
            assert sorted(found) == rows.tolist()
            assert all(item.digest == some_item(row).digest for row, item in found.items())
    with Archive.open(folder) as archive, archive.lock(ONE):
        left = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        left = [path for path in left if path.parent != folder / "cache"]  # which counts for nothing
    assert len(left) == 6, left
