"""kill -9 while ``hybrid index`` runs: nothing acknowledged is lost, and the work can be gone on with."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from indexes.archive import Archive
from tests.demo_clip import write_many_clips
from tests.engine.index_process import index_server, start_index

VIDEOS = 8
KILLS = 13


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS)


def finished_videos(output: Path) -> set[str]:
    """Ids of the videos that the run said were done. A line that was cut by the kill says nothing."""
    done = set()
    for line in output.read_text().splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event["event"] == "done":
            done.add(event["video_id"])
    return done


def content(archive: Path) -> dict[str, tuple[str, str]]:
    """What each video's manifest says of its vectors and times, every byte compared with it."""
    with Archive.open(archive, create=False) as opened:
        checked = [opened.verify(manifest.video_id) for manifest in opened.manifests()]
        return {manifest.video_id: (manifest.vectors_hash, manifest.timeline_hash) for manifest in checked}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["faiss", "lancedb"])
def test_kills_at_random_moments(many_clips: Path, clip_folder: Path, tmp_path: Path, backend: str) -> None:
    dice = random.Random(backend)
    server = index_server()
    output = tmp_path / "output.jsonl"

    def start(archive: Path) -> ForkServerProcess:
        output.write_bytes(b"")
        # In one process: that is what is killed, and starting others would take most of the time.
        options = ["--archive", str(archive), "--backend", backend, "--encoder", f"local-dir:{clip_folder}"]
        options += ["--workers", "0"]
        return start_index(server, [str(many_clips), *options], output)

    whole = tmp_path / "whole"
    run = start(whole)
    while run.is_alive() and not output.stat().st_size:
        time.sleep(0.005)
    began = time.monotonic()
    run.join()
    took = time.monotonic() - began
    assert run.exitcode == 0
    expected = content(whole)
    assert set(expected) == finished_videos(output)
    assert len(expected) == VIDEOS

    killed, archive, acknowledged = 0, tmp_path / "killed", set[str]()
    seen_half_done = False
    while killed < KILLS:
        run = start(archive)
        while run.is_alive() and not output.stat().st_size:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, took))
        run.kill()
        run.join()
        killed += run.exitcode == -signal.SIGKILL
        acknowledged |= finished_videos(output)
        held = content(archive)
        assert acknowledged <= set(held)
        assert all(expected[video] == held[video] for video in held)
        seen_half_done |= 0 < len(held) < VIDEOS
        if len(held) == VIDEOS:
            shutil.rmtree(archive)
            acknowledged = set()

    assert seen_half_done, "no kill came while some videos were done and others were not"

    run = start(archive)
    run.join()
    assert run.exitcode == 0
    assert content(archive) == expected
    with Archive.open(archive) as resumed, Archive.open(whole) as uninterrupted:
        for video in expected:
            np.testing.assert_array_equal(resumed.read(video), uninterrupted.read(video))
