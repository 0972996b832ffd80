"""The figures of one archive: opening it, one video of it, all of it exactly, adding to it, its size."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

from bench import clock
from bench.latency.search_probe import drop_from_memory
from bench.latency.video_vectors import VideoWorld
from hybrid.values import Float32Array
from indexes.archive.writer import Archive
from indexes.maintenance.stats import archive_stats
from indexes.open_archive import open_archive

__all__ = ["TOP", "adding", "make_queries", "one_video", "opening", "private_mb", "raw_scan", "sizes_on_disk", "timed"]

Result = TypeVar("Result")

TOP = 256
OPENED = 40
"""How many videos are searched one by one."""

ADDED = 25

_OPEN = """
import sys, time
from indexes.archive.writer import Archive
from indexes.open_archive import open_archive
started, busy = time.perf_counter(), time.process_time()
with open_archive(sys.argv[1], create=False) as archive:
    opened = time.perf_counter() - started
    count = sum(1 for _ in archive.manifests())
print(count, opened, time.perf_counter() - started, time.process_time() - busy)
"""


def timed(action: Callable[..., Result], *arguments: Any, **options: Any) -> tuple[Result, float, float]:
    """What a call gives; milliseconds that passed, and that the processor was busy for this process."""
    result, took = clock.timed(action, *arguments, **options)
    return result, 1000 * took.wall, 1000 * took.cpu


def private_mb() -> float:
    """The memory of this process without mapped files, in MiB."""
    info = psutil.Process().memory_info()
    return float(info.rss - getattr(info, "shared", 0)) / 2**20


def opening(folder: Path) -> dict[str, float]:
    """Opening the archive and knowing all its videos, in a new process each time; with and without the catalogue."""
    catalogue = folder / "cache" / "catalogue"
    catalogued = catalogue.read_bytes()
    runs = [_in_new_process(folder) for _ in range(3)]
    catalogue.unlink()
    without = _in_new_process(folder)[1]
    catalogue.write_bytes(catalogued)
    return {
        "open_s": statistics.median(opened for opened, _, _ in runs),
        "open_and_list_s": statistics.median(listed for _, listed, _ in runs),
        "open_and_list_cpu_s": statistics.median(busy for _, _, busy in runs),
        "open_and_list_without_catalogue_s": without,
    }


def _in_new_process(folder: Path) -> tuple[float, float, float]:
    run = subprocess.run([sys.executable, "-c", _OPEN, str(folder)], capture_output=True, text=True, check=True)
    figures = run.stdout.split()
    return float(figures[1]), float(figures[2]), float(figures[3])


def make_queries(world: VideoWorld, videos: int, frames: int, count: int) -> list[Float32Array]:
    """Each about a frame of some video."""
    dice = np.random.default_rng(1)
    queries = []
    for number in range(count):
        vectors = world.video(int(dice.integers(videos)), frames)
        queries.append(world.query(number, vectors[int(dice.integers(frames))]))
    return queries


def one_video(archive: Archive, queries: Sequence[Float32Array]) -> dict[str, float]:
    """Opening and searching one video: cold, with its files in the system's memory, and kept open; and without us.

    Without us: FAISS reads a file and searches it; LanceDB opens its table and searches it, or searches the
    table that is open. Cold is what lies in the video's own folder, which LanceDB's vectors do not.
    """
    manifests = list(archive.manifests())
    manifests = manifests[:: max(1, len(manifests) // OPENED)][:OPENED]
    raw = _RawLance(archive.folder) if archive.backend == "lancedb" else _RawFaiss(archive.folder)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, manifest in enumerate(manifests):
        query = queries[number % len(queries)]
        ours = (("cold", "warm", "kept_open"), archive.close, partial(archive.search, manifest, query, TOP))
        without_us = (
            ("raw_cold", "raw_open", "raw"),
            raw.close,
            partial(raw, manifest.video_id, manifest.generation, query),
        )
        # A disk has a memory of its own: what comes second finds the file there.
        for (cold, warm, open_again), close, search in (ours, without_us) if number % 2 else (without_us, ours):
            drop_from_memory(archive.folder / "videos" / manifest.video_id)
            close()
            found[cold].append(timed(search)[1:])
            close()
            found[warm].append(timed(search)[1:])
            found[open_again].append(timed(search)[1:])
    figures = {}
    for name, times in found.items():
        figures[f"one_{name}_ms"] = statistics.median(ms for ms, _ in times)
        figures[f"one_{name}_cpu_ms"] = statistics.median(ms for _, ms in times)
    figures["one_cold_to_raw"] = figures["one_cold_ms"] / figures["one_raw_cold_ms"]
    figures["one_warm_to_raw"] = figures["one_warm_ms"] / figures["one_raw_open_ms"]
    figures["one_kept_open_to_raw"] = figures["one_kept_open_ms"] / figures["one_raw_ms"]
    return figures


class _RawFaiss:
    """A file read whole and searched, with FAISS alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}

    def __call__(self, video_id: str, generation: str, query: Float32Array) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        if generation not in self._open:
            path = self._folder / "videos" / video_id / f"vectors-{generation}.faiss"
            self._open[generation] = faiss.read_index(str(path))
        self._open[generation].search(query[None], TOP)

    def close(self) -> None:
        self._open.clear()


class _RawLance:
    """LanceDB's own exact search of one video in the open table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table: Any = None

    def __call__(self, video_id: str, generation: str, query: Float32Array) -> None:
        if self._table is None:
            import lancedb

            (path,) = self._folder.glob("frames_*.lance")
            self._table = lancedb.connect(self._folder).open_table(path.stem)
        query_of_one = self._table.search(query).distance_type("dot").where(f"video_id = '{video_id}'", prefilter=True)
        query_of_one.bypass_vector_index().limit(TOP).select(["row", "_distance"]).to_arrow()

    def close(self) -> None:
        self._table = None


def raw_scan(archive: Archive, queries: Sequence[Float32Array]) -> dict[str, float]:
    """FAISS's own search of every video's mapped file, one behind the other, and nothing else."""
    if archive.backend != "faiss":
        return {}
    import faiss

    faiss.omp_set_num_threads(1)
    manifests = list(archive.manifests())
    indexes = [archive.store._mapped.take(manifest.key, manifest.quickest_hash) for manifest in manifests]  # type: ignore[attr-defined]

    def scan(query: Float32Array) -> None:
        for index in indexes:
            index.search(query[None], min(TOP, index.ntotal))

    scan(queries[0])
    times = [timed(scan, query)[1:] for query in queries]
    return {
        "raw_faiss_scan_ms": statistics.median(ms for ms, _ in times),
        "raw_faiss_scan_cpu_ms": statistics.median(ms for _, ms in times),
    }


def sizes_on_disk(archive: Archive) -> dict[str, float]:
    """Bytes a frame, files, and what they are for."""
    stock = archive_stats(archive, recall=False)
    parts = {f"{kind}_mb": size / 2**20 for kind, size in stock.bytes.items() if size}
    approximate = stock.bytes["approximate"] / stock.frames
    return {
        "bytes_per_frame": stock.bytes_per_frame or 0.0,
        "approximate_bytes_per_frame": approximate,
        "files": stock.files,
        **parts,
    }


def adding(
    full: Path, empty: Path, add: Callable[[Archive, int], tuple[float, float]], videos: int, backend: str
) -> dict[str, float]:
    """Adding a video to the full archive and to an empty one, in turn; the full one is left as it was."""
    shutil.rmtree(empty, ignore_errors=True)
    into_full, into_empty = [], []
    with open_archive(full) as large, open_archive(empty, backend=backend) as small:
        for archive in (large, small):
            add(archive, videos)  # what happens only once
        for number in range(videos + 1, videos + 1 + ADDED):
            into_full.append(add(large, number))
            into_empty.append(add(small, number))
        for number in range(videos, videos + 1 + ADDED):
            large.remove(f"{number:032x}")
    shutil.rmtree(empty, ignore_errors=True)
    figures = {}
    for name, times in (("full", into_full), ("empty", into_empty)):
        figures[f"add_to_{name}_ms"] = 1000 * statistics.median(seconds for seconds, _ in times)
        figures[f"add_to_{name}_cpu_ms"] = 1000 * statistics.median(seconds for _, seconds in times)
    figures["add_ratio"] = figures["add_to_full_ms"] / figures["add_to_empty_ms"]
    figures["add_ratio_cpu"] = figures["add_to_full_cpu_ms"] / figures["add_to_empty_cpu_ms"]
    return figures
