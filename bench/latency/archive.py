"""Archives of many videos: opening, searching one and all, adding one, and what they take on disk.

``python -m bench.latency.archive --sizes 100x3600 1000x3600 10000x1020 [--backend faiss] [--folder DIR] [--out FILE]``

The vectors are made up (see :mod:`bench.latency.video_vectors`): what is found is compared with what an exact
search of the same vectors finds, and says nothing about how good the answers are. Filling goes
through the archive's own writer, but without waiting for the disk (``fsync`` does nothing meanwhile); the
cost of adding a video is measured with it. Times are given twice, as they passed and as the processor was
busy for this process: on a machine that others use too, only the second means much.
With ``--out`` results are added to those of other sizes in that file, and the curves drawn beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench.latency.archive_figures import (
    TOP,
    adding,
    make_queries,
    one_video,
    opening,
    private_mb,
    raw_scan,
    sizes_on_disk,
)
from bench.latency.archive_quantisers import other_methods
from bench.latency.archive_recall import recall_and_speed
from bench.latency.video_vectors import VideoWorld
from bench.plot import Curve, draw_curves
from bench.report import circumstances, print_table
from hybrid.storage.foreign_json import read_json
from hybrid.values import Sampling, Timeline
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import IndexConfig, IndexedVideo, Source
from indexes.maintenance.build_ann import update_approximate
from indexes.maintenance.stats import compact_archive
from indexes.open_archive import open_archive


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", default=["100x3600"], help="videos x frames of each")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--shake", type=float, default=0.04, help="how restless the made-up videos are")
    parser.add_argument("--content", type=float, default=0.45, help="how much of a query is about a frame")
    parser.add_argument("--backend", choices=["faiss", "lancedb"], default="faiss")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--methods", action="store_true", help="compare other codes too (small archives only)")
    parser.add_argument("--folder", type=Path, help="where archives are made and kept; what is there is not made again")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    results = [measure(size, arguments) for size in arguments.sizes]
    for result in results:
        show(result)
    final: dict[str, Any] = {"benchmark": "archive", "archives": results}
    if arguments.out is not None:
        final = merged(final, arguments.out)
        arguments.out.write_text(json.dumps(final, indent=2) + "\n", encoding="utf-8")
        draw(final["archives"], arguments.out.with_suffix(".png"))
    print(json.dumps({"benchmark": "archive", "archives": results}))


def measure(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one archive."""
    videos, frames = (int(number) for number in size.split("x"))
    backend: str = arguments.backend
    world = VideoWorld(arguments.dimension, shake=arguments.shake, content=arguments.content)
    kept = arguments.folder or Path(tempfile.mkdtemp())
    name = f"{backend}-{size}-{arguments.dimension}-{arguments.shake:g}"
    folder = kept / name
    try:
        figures: dict[str, Any] = {"frames": videos * frames}
        # In a process of its own: what that leaves behind in memory would be in the way of what is measured here.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures |= pool.submit(fill, folder, size, arguments).result()
        figures |= opening(folder)
        with open_archive(folder, create=False) as archive:
            queries = make_queries(world, videos, frames, arguments.queries)
            figures |= one_video(archive, queries)
            figures |= raw_scan(archive, queries[:5])
            curve = recall_and_speed(archive, queries, figures)
            figures |= sizes_on_disk(archive)
            methods = other_methods(archive, frames, queries) if arguments.methods else None
        figures |= adding(
            folder, kept / f"{name}-empty", lambda a, number: add(a, world, number, frames), videos, backend
        )
    finally:
        if arguments.folder is None:
            shutil.rmtree(kept, ignore_errors=True)
    shape = {"videos": videos, "frames_each": frames, "dimension": arguments.dimension, "shake": arguments.shake}
    how = {"backend": backend, "content": arguments.content, "top": TOP, "queries": len(queries), **circumstances()}
    return {**shape, **how, "figures": figures, "curve": curve, "methods": methods}


def fill(folder: Path, size: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Index made-up videos, as far as they are not there yet, and bring catalogue and approximate index up to date."""
    videos, frames = (int(number) for number in size.split("x"))
    world, backend = VideoWorld(arguments.dimension, shake=arguments.shake), arguments.backend
    started, busy = time.perf_counter(), time.process_time()
    with _without_flushing(), open_archive(folder, backend=backend) as archive:
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
        started, busy = time.perf_counter(), time.process_time()
        (done,) = update_approximate(archive, from_frames=1)
        built, built_busy = time.perf_counter() - started, time.process_time() - busy
        started = time.perf_counter()
        update_approximate(archive, from_frames=1)
        nothing = time.perf_counter() - started
    return {
        "fill_s": filled,
        "fill_cpu_s": filled_busy,
        "filled_videos": max(0, added),
        "build_approximate_s": built,
        "build_approximate_cpu_s": built_busy,
        "build_approximate_private_mb": private_mb(),
        "covered_frames": done.covered_frames,
        "update_without_news_ms": 1000 * nothing,
    }


@contextmanager
def _without_flushing() -> Iterator[None]:
    with mock.patch("os.fsync"):
        yield


def add(archive: Archive, world: VideoWorld, number: int, frames: int) -> tuple[float, float]:
    """Commit one video; the seconds of the commit alone, as they passed and as the processor was busy."""
    vectors = world.video(number, frames)
    ordinals = np.arange(frames, dtype=np.int64)
    timeline = Timeline(ordinals, ordinals.astype(np.float64), ordinals * 30, Sampling(), float(frames))
    started, busy = time.perf_counter(), time.process_time()
    archive.commit(
        f"{number:032x}",
        NewIndex(
            timeline=timeline,
            vectors=vectors,
            config=IndexConfig(encoder={"model": "made-up"}, rate=1.0, policy="exact", decoder="pyav"),
            source=Source(path=f"/videos/{number:06d}.mp4", size_bytes=1),
            video=IndexedVideo(kind="file", duration_seconds=float(frames), width=640, height=360, codec="h264"),
        ),
    )
    return time.perf_counter() - started, time.process_time() - busy


def show(result: dict[str, Any]) -> None:
    """Tables for people."""
    print(f"\n{result['videos']} videos of {result['frames_each']} frames, {result['dimension']} values, "
          f"{result['backend']}, shake {result['shake']:g}, content {result['content']:g}")  # fmt: skip
    print_table(["what", "figure"], [[key, f"{value:.4g}"] for key, value in result["figures"].items()])
    columns = ["search", "recall", "least_recall", "ms", "cpu_ms", "times_faster", "times_faster_cpu", "units"]
    print_table(columns, [[_cell(point[name]) for name in columns] for point in result["curve"]])
    for method in result["methods"] or ():
        print_table(list(method), [[_cell(value) for value in method.values()]])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def merged(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """The result together with those of other archives in a file."""
    known: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = read_json(out)["archives"]
    fresh = {_shape(archive) for archive in result["archives"]}
    archives = [archive for archive in known if _shape(archive) not in fresh] + result["archives"]
    return {**result, "archives": sorted(archives, key=_shape)}


def _shape(archive: dict[str, Any]) -> tuple[Any, ...]:
    kind = (archive["backend"], archive["shake"], archive["content"])
    return *kind, archive["videos"] * archive["frames_each"], archive["dimension"]


def draw(archives: Sequence[dict[str, Any]], path: Path) -> None:
    """Recall against speed, a line for each archive."""
    curves = []
    for archive in archives:
        points = [point for point in archive["curve"] if point["search"].startswith("units")]
        default = next(point for point in archive["curve"] if point["search"] == "default")
        millions = archive["videos"] * archive["frames_each"] / 1e6
        label = (
            f"{archive['backend']}, {millions:.2f} M frames, shake {archive['shake']:g}, content {archive['content']:g}"
        )
        line = [(point["times_faster_cpu"], point["recall"]) for point in points]
        curves.append(Curve(label, line, mark=(default["times_faster_cpu"], default["recall"])))
    draw_curves(
        curves,
        path,
        title=f"Approximate search of an archive, recall@{TOP} of the exact one",
        x_label="times faster than the exact search of the same archive (processor time, one thread)",
        y_label="recall",
        target=(10.0, 0.95),
    )


if __name__ == "__main__":
    main()
