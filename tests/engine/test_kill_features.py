"""kill -9 while ``hybrid index --features`` runs: every index that is there is whole, and so are its features."""

from __future__ import annotations

import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from indexes.archive import Archive
from tests.demo_clip import write_many_clips
from tests.engine.index_process import index_server, start_index
from tests.engine.test_kill import finished_videos

VIDEOS = 4
KILLS = 6


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS)


def complete(archive: Archive) -> set[str]:
    """The videos with an index, each byte of it and of its features compared; all have all features or none."""
    found = set()
    for manifest in archive.manifests():
        archive.verify(manifest.video_id)
        assert archive.verify_features(manifest.video_id) in (0, len(archive.timeline(manifest).distinct_rows()))
        found.add(manifest.video_id)
    return found


@pytest.mark.timeout(600)
def test_kills_at_random_moments(clips: Path, clip_folder: Path, gens_folder: Path, tmp_path: Path) -> None:
    dice = random.Random(3)
    server = index_server()
    output = tmp_path / "output.jsonl"

    def start(archive: Path) -> ForkServerProcess:
        output.write_bytes(b"")
        models = ["--encoder", f"local-dir:{clip_folder}", "--sampler", str(gens_folder), "--device", "cpu"]
        return start_index(server, [str(clips), "--archive", str(archive), "--features", *models], output)

    whole = tmp_path / "whole"
    run = start(whole)
    while run.is_alive() and not finished_videos(output):
        time.sleep(0.005)
    began = time.monotonic()
    run.join()
    took = time.monotonic() - began
    assert run.exitcode == 0
    archive, acknowledged, killed = tmp_path / "killed", set[str](), 0
    for _ in range(KILLS):
        run = start(archive)
        seen = len(acknowledged)
        # The models are loaded when the first video is done or passed over; before that there is nothing to break.
        while run.is_alive() and len(finished_videos(output)) <= min(seen, VIDEOS - 1):
            time.sleep(0.005)
        time.sleep(dice.uniform(0, took))
        run.kill()
        run.join()
        killed += run.exitcode == -signal.SIGKILL
        acknowledged |= finished_videos(output)
        with Archive.open(archive, create=False) as opened:
            assert acknowledged <= complete(opened)
    assert killed, "every run ended before it could be killed: the test has lost its point"
    run = start(archive)
    run.join()
    assert run.exitcode == 0
    with Archive.open(archive) as resumed, Archive.open(whole) as uninterrupted:
        assert complete(resumed) == complete(uninterrupted)
        for manifest in resumed.manifests():
            (one,), (two,) = resumed.feature_lists(manifest), uninterrupted.feature_lists(manifest)
            np.testing.assert_array_equal(one.digests, two.digests)
        assert not list(archive.rglob(".*.tmp-*"))
