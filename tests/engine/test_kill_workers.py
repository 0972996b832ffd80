"""kill -9 while two processes index into LanceDB: the whole run, or one of its processes."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil
import pytest

from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from tests.demo_clip import write_many_clips
from tests.forked import acknowledged_videos, run_command, start_command

VIDEOS = 8


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS)


def content(archive: Path) -> dict[str, tuple[str, str]]:
    """What each manifest says of vectors and times; nothing is damaged, lost or there twice."""
    with open_archive(archive, create=False) as opened:
        assert {finding.state for finding in verify_archive(opened)} <= {"sound", "unfinished"}
        return {manifest.video_id: (manifest.vectors_hash, manifest.timeline_hash) for manifest in opened.manifests()}


def stored_keys(archive: Path) -> list[str]:
    with open_archive(archive) as opened:
        return [key.video_id for key in opened.store.keys()]  # noqa: SIM118 (a store is no dictionary)


def workers_of(run: ForkServerProcess) -> list[psutil.Process]:
    return [
        each for each in psutil.Process(run.pid).children(recursive=True) if "spawn_main" in " ".join(each.cmdline())
    ]


def test_two_processes_that_write_to_lancedb_are_killed(many_clips: Path, clip_folder: Path, tmp_path: Path) -> None:
    dice, archive, output = random.Random(1), tmp_path / "killed", tmp_path / "output.jsonl"
    models = ["--encoder", f"local-dir:{clip_folder}", "--device", "cpu", "--json"]
    done = run_command(
        ["index", str(many_clips), "--archive", tmp_path / "whole", "--backend", "faiss", "--workers", "0", *models],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    expected = content(tmp_path / "whole")
    assert len(expected) == VIDEOS
    options = ["--archive", str(archive), "--backend", "lancedb", *models]

    def start_two(done: int) -> tuple[ForkServerProcess, list[psutil.Process]]:
        run = start_command(["index", str(many_clips), *options, "--workers", "2"], output)
        while run.is_alive() and len(acknowledged_videos(output, now=True)) < done:
            time.sleep(0.002)
        workers = workers_of(run)
        assert len(workers) == 2
        time.sleep(dice.uniform(0, 0.1))
        return run, workers

    run, workers = start_two(2)
    for process in (*workers, run):
        process.kill()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    psutil.wait_procs(workers)
    acknowledged = acknowledged_videos(output)
    held = content(archive)
    assert acknowledged <= set(held)
    assert len(held) < VIDEOS
    assert all(expected[video] == held[video] for video in held)

    # The run that loses one of them goes on; only the video that it worked on may have failed.
    run, workers = start_two(1)
    workers[0].kill()
    run.join()
    assert run.exitcode in (0, 1)
    acknowledged |= acknowledged_videos(output)
    held = content(archive)
    assert acknowledged <= set(held)
    assert len(held) >= VIDEOS - 1
    assert sorted(stored_keys(archive)) == sorted(held)

    done = run_command(["index", str(many_clips), *options, "--workers", "0"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert content(archive) == expected
    assert stored_keys(archive) == sorted(expected)
