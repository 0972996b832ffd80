"""Fill an archive with made-up videos, and bring its catalogue and approximate index up to date."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from unittest import mock

import numpy as np

from bench.clock import Seconds, timed
from bench.latency.archive.figures import private_mb
from bench.latency.video_vectors import VideoWorld
from hybrid.values import Sampling, Timeline
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import IndexConfig, IndexedVideo, Source
from indexes.maintenance.build_ann import update_approximate
from indexes.maintenance.stats import compact_archive
from indexes.open_archive import open_archive

__all__ = ["add", "fill"]


def fill(folder: Path, size: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Index made-up videos, as far as they are not there yet, and bring catalogue and approximate index up to date."""
    videos, frames = (int(number) for number in size.split("x"))
    world, backend = VideoWorld(arguments.dimension, shake=arguments.shake), arguments.backend
    started, busy = time.perf_counter(), time.process_time()
    with mock.patch("os.fsync"), open_archive(folder, backend=backend) as archive:
        there = {manifest.video_id for manifest in archive.manifests()}
        for number in range(videos):
            if f"{number:032x}" not in there:
                add(archive, world, number, frames)
        # What an earlier run added for measuring.
        for video_id in there - {f"{number:032x}" for number in range(videos)}:
            archive.remove(video_id)
        filled, filled_busy = time.perf_counter() - started, time.process_time() - busy
        added = videos - len(there)
        compact_archive(archive, approximate_from=2**62)
        shutil.rmtree(archive.folder / "approximate", ignore_errors=True)
        (done,), built = timed(update_approximate, archive, from_frames=1)
        _, unchanged = timed(update_approximate, archive, from_frames=1)
    return {
        "fill_s": filled,
        "fill_cpu_s": filled_busy,
        "filled_videos": max(0, added),
        "build_approximate_s": built.wall,
        "build_approximate_cpu_s": built.cpu,
        "build_approximate_private_mb": private_mb(),
        "covered_frames": done.covered_frames,
        "update_without_news_ms": 1000 * unchanged.wall,
    }


def add(archive: Archive, world: VideoWorld, number: int, frames: int) -> Seconds:
    """Commit one video; the seconds of the commit alone, as they passed and as the processor was busy."""
    vectors = world.video(number, frames)
    ordinals = np.arange(frames, dtype=np.int64)
    timeline = Timeline(ordinals, ordinals.astype(np.float64), ordinals * 30, Sampling(), float(frames))
    new = NewIndex(
        timeline=timeline,
        vectors=vectors,
        config=IndexConfig(encoder={"model": "made-up"}, rate=1.0, policy="exact", decoder="pyav"),
        source=Source(path=f"/videos/{number:06d}.mp4", size_bytes=1),
        video=IndexedVideo(kind="file", duration_seconds=float(frames), width=640, height=360, codec="h264"),
    )
    _, took = timed(archive.commit, f"{number:032x}", new)
    return took
