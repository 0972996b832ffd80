"""Recall and speed of the approximate search of an archive, beside its exact search."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from bench.latency.archive.figures import TOP, private_mb, timed
from bench.memory import most_resident_mb
from hybrid.values import Float32Array
from indexes.ann.search_params import SearchParams
from indexes.archive.writer import Archive
from indexes.maintenance.recall import share_found
from indexes.search.archive_search import ArchiveHits, search_archive_vectors

__all__ = ["recall_and_speed"]

UNITS = (64, 128, 256, 512, 1024, 2048, 4096)


def recall_and_speed(
    archive: Archive, queries: Sequence[Float32Array], figures: dict[str, Any]
) -> list[dict[str, Any]]:
    """The whole curve: fixed numbers of compared units, and the default, which goes by what it finds.

    Exact and approximate searches take turns, so that what else the machine does meets both. The videos
    that are looked closer at (their hash is compared once) have been so before anything is timed.

    Args:
        archive: with an approximate index.
        queries: float32 [D] each.
        figures: what is found on the way is added here: first searches, memory.
    """
    manifests = list(archive.manifests())
    kinds: dict[str, SearchParams | None] = {"exact": None, "default": SearchParams()}
    kinds |= {f"units {count}": SearchParams(count, count, 0, 0, 0.0) for count in UNITS}

    def search(query: Float32Array, params: SearchParams | None) -> ArchiveHits:
        return search_archive_vectors(archive, manifests, query, TOP, params=params)

    before = private_mb()
    figures["approximate_first_ms"] = timed(search, queries[0], SearchParams())[1]
    figures["approximate_memory_mb"] = private_mb() - before
    found: dict[str, list[tuple[ArchiveHits, float, float]]] = {name: [] for name in kinds}
    with most_resident_mb() as most:
        for query in queries:
            search(query, SearchParams(4096, 4096, 0, 0, 0.0))  # looks closer at the videos that all will find
            for name, params in kinds.items():
                found[name].append(timed(search, query, params))
    figures["search_all_peak_with_mapped_files_mb"] = most[0]
    figures["search_all_private_mb"] = private_mb()
    truth = [hits for hits, _, _ in found["exact"]]
    exact = (
        statistics.median(ms for _, ms, _ in found["exact"]),
        statistics.median(ms for _, _, ms in found["exact"]),
    )
    figures["exact_all_ms"], figures["exact_all_cpu_ms"] = exact
    figures["list_videos_ms"] = statistics.median(timed(lambda: list(archive.manifests()))[1] for _ in range(5))
    return [_point(name, results, truth, exact) for name, results in found.items()]


def _point(
    name: str,
    results: Sequence[tuple[ArchiveHits, float, float]],
    truth: Sequence[ArchiveHits],
    exact: tuple[float, float],
) -> dict[str, Any]:
    shares = [share_found(expected, hits) for (hits, _, _), expected in zip(results, truth, strict=True)]
    ms = statistics.median(passed for _, passed, _ in results)
    busy = statistics.median(worked for _, _, worked in results)
    records = [hits.approximate for hits, _, _ in results]
    return {
        "search": name,
        "recall": statistics.mean(shares),
        "least_recall": min(shares),
        "ms": ms,
        "cpu_ms": busy,
        "times_faster": exact[0] / ms,
        "times_faster_cpu": exact[1] / busy,
        "units": statistics.mean(record.compared_units if record is not None else 0 for record in records),
        "frames": statistics.mean(record.compared_frames if record is not None else 0 for record in records),
        "used": all(record is not None and record.used for record in records),
    }
