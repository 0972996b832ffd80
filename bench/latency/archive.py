"""Archives of many videos: opening, searching one and all, adding one, and what they take on disk.

``python -m bench.latency.archive --videos 1000 --frames 3600 [--backend faiss] [--quantised] [--out FILE]``

The vectors are made up (see :mod:`bench.latency.video_vectors`): nothing here says how good the answers
are, only how quickly they come. With ``--quantised`` the whole curve of recall against time is
measured for a scan over product-quantised codes with exact re-ranking, held in memory beside the archive.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.latency.video_vectors import VideoWorld
from bench.memory import most_resident_mb, resident_mb
from bench.report import circumstances, print_table, write_result
from hybrid.values import Float32Array, Sampling, Timeline
from indexes.archive import Archive
from indexes.archive_search import ArchiveHits, search_archive_vectors
from indexes.base import BackendName
from indexes.care import compact_archive, take_stock
from indexes.manifest import IndexConfig, IndexedVideo, Source

Result = TypeVar("Result")

TOP = 256
QUERIES = 20
OPENED = 40
"""How many videos are searched one by one."""

_OPEN = """
import sys, time
from indexes.archive import Archive
started = time.perf_counter()
with Archive.open(sys.argv[1], create=False) as archive:
    count = sum(1 for _ in archive.manifests())
print(count, time.perf_counter() - started)
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--frames", type=int, default=3600, help="of each video")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--backend", choices=["faiss", "lancedb"], default="faiss")
    parser.add_argument("--quantised", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the archive is made (default: a temporary folder)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        result = measure(Path(name), arguments)
    rows = [[key, value if isinstance(value, str) else f"{value:.4g}"] for key, value in result["figures"].items()]
    print_table(["what", "figure"], rows)
    if result["quantised"]:
        print_table(
            ["codes", "re-ranked", "recall@256", "ms", "times faster"],
            [
                [p["codes"], p["reranked"], f"{p['recall']:.4f}", f"{p['ms']:.2f}", f"{p['speedup']:.1f}"]
                for p in result["quantised"]["curve"]
            ],
        )
    write_result({"benchmark": "archive", **circumstances(), **result}, arguments.out)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one archive."""
    world = VideoWorld(arguments.dimension)
    backend: BackendName = arguments.backend
    started = time.perf_counter()
    with Archive.open(folder / "archive", backend=backend) as archive:
        for number in range(arguments.videos):
            add(archive, world, number, arguments.frames)
        compact_archive(archive)
    figures: dict[str, Any] = {"frames": arguments.videos * arguments.frames, "fill_s": time.perf_counter() - started}
    figures |= opening(folder / "archive")
    with Archive.open(folder / "archive", create=False) as archive:
        queries = make_queries(archive, world, arguments)
        figures |= one_video(archive, queries)
        with most_resident_mb() as most:
            before = resident_mb()
            exact = all_videos(archive, queries, figures)
        figures["search_all_peak_mb"] = most[0] - before
        stock = take_stock(archive)
        figures |= {"bytes_per_frame": stock.bytes_per_frame or 0.0, "files": stock.files}
        figures["disk_mb"] = sum(stock.bytes.values()) / 2**20
        quantised = scan_quantised(archive, queries, exact, figures) if arguments.quantised else None
    figures |= adding(folder, world, arguments, backend)
    shape = {"videos": arguments.videos, "frames_each": arguments.frames, "dimension": arguments.dimension}
    return {**shape, "backend": backend, "top": TOP, "figures": figures, "quantised": quantised}


def add(archive: Archive, world: VideoWorld, number: int, frames: int) -> float:
    """Commit one video; the seconds of the commit alone."""
    vectors = world.video(number, frames)
    ordinals = np.arange(frames, dtype=np.int64)
    timeline = Timeline(ordinals, ordinals.astype(np.float64), ordinals * 30, Sampling(), float(frames))
    started = time.perf_counter()
    archive.commit(
        f"{number:032x}",
        timeline=timeline,
        vectors=vectors,
        config=IndexConfig(encoder={"model": "made-up"}, rate=1.0, policy="exact", decoder="pyav"),
        source=Source(path=f"/videos/{number:06d}.mp4", size_bytes=1),
        video=IndexedVideo(kind="file", duration_seconds=float(frames), width=640, height=360, codec="h264"),
    )
    return time.perf_counter() - started


def opening(folder: Path) -> dict[str, float]:
    """Opening the archive and knowing all its videos, in a new process each time; with and without the catalogue."""
    catalogue = folder / "cache" / "catalogue"
    kept = catalogue.read_bytes()
    with_it = statistics.median(_in_new_process(folder) for _ in range(3))
    catalogue.unlink()
    without = _in_new_process(folder)
    catalogue.write_bytes(kept)
    return {"open_all_s": with_it, "open_all_without_catalogue_s": without}


def _in_new_process(folder: Path) -> float:
    run = subprocess.run([sys.executable, "-c", _OPEN, str(folder)], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[1])


def make_queries(archive: Archive, world: VideoWorld, arguments: argparse.Namespace) -> list[Float32Array]:
    """Each about a frame of some video."""
    dice = np.random.default_rng(1)
    queries = []
    for number in range(QUERIES):
        vectors = world.video(int(dice.integers(arguments.videos)), arguments.frames)
        queries.append(world.query(number, vectors[int(dice.integers(arguments.frames))]))
    return queries


def one_video(archive: Archive, queries: Sequence[Float32Array]) -> dict[str, float]:
    """Opening and searching the index of one video: cold, with its files in the system's memory, and kept open."""
    manifests = list(archive.manifests())[:OPENED]
    cold, warm, kept = [], [], []
    for place, manifest in enumerate(manifests):
        query = queries[place % len(queries)]
        for path in (archive.folder / "videos" / manifest.video_id).iterdir():
            _drop_from_memory(path)
        archive.close()
        cold.append(_timed(archive.search, manifest, query, TOP)[1])
        archive.close()
        warm.append(_timed(archive.search, manifest, query, TOP)[1])
        kept.append(_timed(archive.search, manifest, query, TOP)[1])
    return {
        "one_cold_ms": statistics.median(cold),
        "one_warm_ms": statistics.median(warm),
        "one_kept_open_ms": statistics.median(kept),
    }


def _drop_from_memory(path: Path) -> None:
    if not hasattr(os, "posix_fadvise"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _timed(action: Callable[..., Result], *arguments: Any, **options: Any) -> tuple[Result, float]:
    """What a call gives, and its milliseconds."""
    started = time.perf_counter()
    result = action(*arguments, **options)
    return result, 1000 * (time.perf_counter() - started)


def all_videos(archive: Archive, queries: Sequence[Float32Array], figures: dict[str, Any]) -> list[ArchiveHits]:
    """The exact search over everything: the first time, and again, with one thread and with all."""
    manifests = list(archive.manifests())
    threads = min(8, os.cpu_count() or 1)
    figures["all_first_ms"] = _timed(search_archive_vectors, archive, manifests, queries[0], TOP, threads=threads)[1]
    found: list[ArchiveHits] = []
    for count in sorted({1, threads}):
        timed = [_timed(search_archive_vectors, archive, manifests, query, TOP, threads=count) for query in queries]
        found = [hits for hits, _ in timed]
        figures[f"all_{count}_threads_ms"] = statistics.median(ms for _, ms in timed)
    figures["list_videos_ms"] = statistics.median(_timed(lambda: list(archive.manifests()))[1] for _ in range(5))
    return found


def scan_quantised(
    archive: Archive, queries: Sequence[Float32Array], exact: Sequence[ArchiveHits], figures: dict[str, Any]
) -> dict[str, Any]:
    """Recall and time of a scan over 4-bit product-quantised codes, for several numbers of re-ranked frames."""
    import faiss

    manifests = list(archive.manifests())
    dimension = manifests[0].dimension
    base = figures["all_1_threads_ms"]
    starts = np.cumsum([0, *(manifest.frames for manifest in manifests)])
    truth = [
        {
            int(starts[place]) + int(row)
            for place, m in enumerate(manifests)
            if m.video_id in hits.hits
            for row in hits.hits[m.video_id].rows
        }
        for hits in exact
    ]
    faiss.omp_set_num_threads(1)
    curve: list[dict[str, Any]] = []
    built: dict[str, Any] = {}
    for parts in (dimension // 8, dimension // 4):
        index = faiss.IndexPQFastScan(dimension, parts, 4, faiss.METRIC_INNER_PRODUCT)
        started = time.perf_counter()
        index.train(_some_vectors(archive, 65_536))
        trained = time.perf_counter()
        for manifest in manifests:
            index.add(archive.read(manifest))
        name = f"PQ{parts}x4"
        built[name] = {"train_s": trained - started, "add_s": time.perf_counter() - trained, "bytes_a_frame": parts / 2}
        for reranked in (256, 512, 1024, 2560, 5120, 10_240, 20_480):
            if reranked > index.ntotal:
                break
            timed = [_timed(_rerank, archive, manifests, starts, index, query, reranked) for query in queries]
            recall = statistics.mean(
                len(got & wanted) / len(wanted) for (got, _), wanted in zip(timed, truth, strict=True)
            )
            ms = statistics.median(ms for _, ms in timed)
            curve.append(
                {
                    "codes": name,
                    "reranked": reranked,
                    "recall": recall,
                    "ms": ms,
                    "speedup": base / ms,
                }
            )
    return {"built": built, "curve": curve}


def _some_vectors(archive: Archive, count: int) -> Float32Array:
    """Vectors of videos spread over the archive."""
    manifests = list(archive.manifests())
    step = max(1, len(manifests) * manifests[0].frames // count)
    chosen = manifests[:: max(1, step // 8)]
    blocks = [archive.read(manifest)[:: min(8, step)] for manifest in chosen]
    return np.ascontiguousarray(np.concatenate(blocks)[:count])


def _rerank(
    archive: Archive, manifests: Sequence[Any], starts: Any, index: Any, query: Float32Array, reranked: int
) -> set[int]:
    """The best frames by code, then the best of those by their stored vectors."""
    _, rows = index.search(query[None], reranked)
    rows = np.sort(rows[0])
    place = np.searchsorted(starts, rows, side="right") - 1
    similarities = np.empty(len(rows), dtype=np.float32)
    for video in np.unique(place):
        mine = place == video
        stored = archive.store._mapped.take(manifests[video].key)  # type: ignore[attr-defined]
        local = rows[mine] - starts[video]
        similarities[mine] = stored.reconstruct_batch(local) @ query
    best = np.argpartition(-similarities, min(TOP, len(rows)) - 1)[:TOP]
    return {int(row) for row in rows[best]}


def adding(folder: Path, world: VideoWorld, arguments: argparse.Namespace, backend: BackendName) -> dict[str, float]:
    """Adding a video to the full archive, and to an empty one."""
    frames = arguments.frames
    with Archive.open(folder / "archive") as full, Archive.open(folder / "empty", backend=backend) as empty:
        for archive, number in ((full, arguments.videos), (empty, 0)):
            add(archive, world, number, frames)  # what happens only once
        into_full = [add(full, world, arguments.videos + 1 + number, frames) for number in range(15)]
        into_empty = [add(empty, world, 1 + number, frames) for number in range(15)]
    full_ms, empty_ms = 1000 * statistics.median(into_full), 1000 * statistics.median(into_empty)
    return {"add_to_full_ms": full_ms, "add_to_empty_ms": empty_ms, "add_ratio": full_ms / empty_ms}


if __name__ == "__main__":
    main()
