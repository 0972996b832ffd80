"""Other codes than those of the approximate index, beside it: of frames and of units, scanned whole or by cells.

Only the scan is timed, with FAISS alone: the exact comparison of what it finds costs the same for all. Recall
is that of the best frames after such a comparison: the share of them that lie in what the scan found.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bench.latency.archive.figures import TOP, timed
from hybrid.values import Float32Array
from indexes.ann.segmentation import cut_units
from indexes.archive.writer import Archive

__all__ = ["other_methods"]

_TRAINING = 32_768


def other_methods(archive: Archive, frames: int, queries: Sequence[Float32Array]) -> list[dict[str, Any]]:
    """Recall and time of each method at several numbers of candidates."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.concatenate([archive.read(manifest) for manifest in archive.manifests()])
    cut = [cut_units(vectors[start : start + frames]) for start in range(0, len(vectors), frames)]
    starts = np.concatenate([units.starts + number * frames for number, units in enumerate(cut)])
    means = np.concatenate([units.means for units in cut])
    unit_of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(vectors))))
    dimension = vectors.shape[1]
    exact = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    exact.add(vectors)
    truth = [exact.search(query[None], TOP)[1][0] for query in queries]
    base = statistics.median(timed(exact.search, query[None], TOP)[2] for query in queries)
    del exact
    results = [{"method": "fp16, exact", "of": "frames", "candidates": TOP, "recall": 1.0, "scan_cpu_ms": base}]
    every = np.arange(len(vectors))
    for of, rows, unit_of_row, counts in (
        ("units", means, unit_of, (128, 256, 512, 1024, 2048)),
        ("frames", vectors, every, (512, 1024, 2560, 5120, 10_240)),
    ):
        for name, make in _makers(dimension).items():
            index = make()
            if not index.is_trained:
                index.train(rows[:: max(1, len(rows) // _TRAINING)])
            index.add(rows)
            results += _measure(name, of, index, unit_of_row, counts, queries, truth)
    return results


def _makers(dimension: int) -> dict[str, Callable[[], Any]]:
    import faiss

    inner = faiss.METRIC_INNER_PRODUCT
    made: dict[str, Callable[[], Any]] = {}
    for parts in (dimension // 8, dimension // 4, dimension // 2):
        made[f"PQ{parts}x4 fast scan"] = partial(faiss.IndexPQFastScan, dimension, parts, 4, inner)
    made["SQ4"] = lambda: faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_4bit, inner)
    made["SQ8"] = lambda: faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, inner)
    if hasattr(faiss, "IndexRaBitQFastScan"):
        made["RaBitQ fast scan"] = lambda: faiss.IndexRaBitQFastScan(dimension, inner)
    made["IVF, a quarter of the lists probed"] = lambda: _ivf(dimension)
    return made


def _ivf(dimension: int) -> Any:
    import faiss

    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimension), dimension, 256, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.nprobe = 64
    return index


def _measure(
    name: str,
    of: str,
    index: Any,
    unit_of_row: Any,
    counts: Sequence[int],
    queries: Sequence[Float32Array],
    truth: Sequence[Any],
) -> list[dict[str, Any]]:
    results = []
    for count in counts:
        found = [timed(index.search, query[None], count) for query in queries]
        recall = statistics.mean(
            float(np.isin(unit_of_row[expected], rows[0]).mean())
            for ((_, rows), _, _), expected in zip(found, truth, strict=True)
        )
        busy = statistics.median(ms for _, _, ms in found)
        results.append({"method": name, "of": of, "candidates": count, "recall": recall, "scan_cpu_ms": busy})
    return results
