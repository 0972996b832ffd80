"""kill -9 while ``hybrid index`` runs: nothing acknowledged is lost, and the work can be gone on with."""

from __future__ import annotations

import random
import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest

from indexes.open_archive import open_archive
from tests.demo_clip import write_many_clips
from tests.forked import acknowledged_videos, start_command

VIDEOS = 8
KILLED_AFTER = (0, 3, 0, 1, 0, 0, 2, 5, 0, 1, 0, 4, 0, 1, 0, 2, 0, 0, 6, 0, 1, 3, 0, 0, 2)
"""For each kill: of how many more videos the run has said that they are done. It comes while the next is worked on."""


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS)


def content(archive: Path) -> dict[str, tuple[str, str]]:
    """What each video's manifest says of its vectors and times, every byte compared with it."""
    with open_archive(archive, create=False) as opened:
        checked = [opened.verify(manifest.video_id) for manifest in opened.manifests()]
        return {manifest.video_id: (manifest.vectors_hash, manifest.timeline_hash) for manifest in checked}


@pytest.mark.parametrize("backend", ["faiss", "lancedb"])
def test_kills_between_any_two_acknowledgements(
    many_clips: Path, clip_folder: Path, tmp_path: Path, backend: str
) -> None:
    dice = random.Random(backend)
    output = tmp_path / "output.jsonl"

    def start(archive: Path, *, hold_after: int | None = None) -> ForkServerProcess:
        # In one process: that is what is killed, and starting others would take most of the time.
        options = ["--archive", str(archive), "--backend", backend, "--encoder", f"local-dir:{clip_folder}"]
        arguments = ["index", str(many_clips), *options, "--workers", "0", "--json"]
        return start_command(arguments, output, hold_after=hold_after)

    whole = tmp_path / "whole"
    run = start(whole)
    while run.is_alive() and not acknowledged_videos(output):
        time.sleep(0.005)
    began = time.monotonic()
    run.join()
    # How long one takes: where in it a kill comes is up to chance and to the machine.
    usual = (time.monotonic() - began) / (VIDEOS - 1)
    assert run.exitcode == 0
    expected = content(whole)
    assert set(expected) == acknowledged_videos(output)
    assert len(expected) == VIDEOS

    archive, acknowledged, held = tmp_path / "killed", set[str](), dict[str, tuple[str, str]]()
    half_done = 0
    for planned in KILLED_AFTER:
        if len(held) == VIDEOS:
            shutil.rmtree(archive)
            acknowledged, held = set(), {}
        wanted = min(planned, VIDEOS - len(held) - 1)
        run = start(archive, hold_after=wanted)
        while run.is_alive() and (not output.stat().st_size or len(acknowledged_videos(output, now=True)) < wanted):
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 1.2 * usual))
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        assert len(acknowledged_videos(output, now=True)) == wanted
        acknowledged |= acknowledged_videos(output)
        held = content(archive)
        assert acknowledged <= set(held)
        assert all(expected[video] == held[video] for video in held)
        half_done += 0 < len(held) < VIDEOS
    # After the first two kills there are three videos at least and five at most.
    assert half_done, "no kill came while some videos were done and others were not"

    run = start(archive)
    run.join()
    assert run.exitcode == 0
    assert content(archive) == expected
    with open_archive(archive) as resumed, open_archive(whole) as uninterrupted:
        for video in expected:
            np.testing.assert_array_equal(resumed.read(video), uninterrupted.read(video))
