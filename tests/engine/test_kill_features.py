"""kill -9 while ``hybrid index --features`` runs: every index that is there is whole, and so are its features."""

from __future__ import annotations

import random
import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from indexes.archive.writer import Archive
from indexes.open_archive import open_archive
from tests.demo_clip import write_many_clips
from tests.forked import acknowledged_videos, start_command

VIDEOS = 4
KILLED_AFTER = (1, 0, 1, 0, 0, 0)
"""For each kill: of how many more videos the run has said that they are done. It comes while the next is worked on."""


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


def test_kills_between_any_two_acknowledgements(
    clips: Path, clip_folder: Path, gens_folder: Path, tmp_path: Path
) -> None:
    dice = random.Random(3)
    output = tmp_path / "output.jsonl"

    def start(archive: Path, *, workers: int = 0, hold_after: int | None = None) -> ForkServerProcess:
        models = ["--encoder", f"local-dir:{clip_folder}", "--sampler", str(gens_folder), "--device", "cpu"]
        arguments = ["index", str(clips), "--archive", str(archive), "--features", *models, "--json"]
        return start_command([*arguments, "--workers", str(workers)], output, hold_after=hold_after)

    whole = tmp_path / "whole"
    run = start(whole)
    while run.is_alive() and not acknowledged_videos(output):
        time.sleep(0.005)
    began = time.monotonic()
    run.join()
    usual = (time.monotonic() - began) / (VIDEOS - 1)
    assert run.exitcode == 0
    archive, acknowledged, held = tmp_path / "killed", set[str](), set[str]()
    half_done = 0
    for number, planned in enumerate(KILLED_AFTER):
        if len(held) == VIDEOS:
            shutil.rmtree(archive)
            acknowledged, held = set(), set()
        wanted = min(planned, VIDEOS - len(held) - 1)
        # The first time the writer is a worker, whose parent is killed; afterwards it is killed itself.
        run = start(archive, workers=int(number == 0), hold_after=wanted)
        while run.is_alive() and (not output.stat().st_size or len(acknowledged_videos(output, now=True)) < wanted):
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 1.2 * usual))
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        assert len(acknowledged_videos(output, now=True)) == wanted
        acknowledged |= acknowledged_videos(output)
        with open_archive(archive, create=False) as opened:
            held = complete(opened)
        assert acknowledged <= held
        half_done += 0 < len(held) < VIDEOS
    # After the first kill there is one video at least and two at most.
    assert half_done, "no kill came while some videos were done and others were not"
    run = start(archive)
    run.join()
    assert run.exitcode == 0
    with open_archive(archive) as resumed, open_archive(whole) as uninterrupted:
        assert complete(resumed) == complete(uninterrupted)
        for manifest in resumed.manifests():
            (one,), (two,) = resumed.feature_lists(manifest), uninterrupted.feature_lists(manifest)
            np.testing.assert_array_equal(one.digests, two.digests)
        assert not list(archive.rglob(".*.tmp-*"))
