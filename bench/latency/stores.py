"""Open and search one video's index: FAISS and LanceDB through the archive, and the raw libraries.

``python -m bench.latency.stores [--frames 3600] [--dimension 512] [--videos 20] [--out FILE]``

Vectors are synthetic (slowly drifting unit vectors, as neighbouring frames are); times do not depend
on their meaning. Each figure is the median over videos of the best of three (writes: of one), with a warm
file cache. FAISS searches with one thread, LanceDB as it likes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from hybrid.values import Float32Array
from indexes.format.layout import VectorKey
from indexes.stores.registry import STORES, open_store

TOP = 256


def drifting(rng: np.random.Generator, frames: int, dimension: int) -> Float32Array:
    """Unit vectors of a video: scenes of 5 s around a common centre, with drift inside a scene."""
    scenes = rng.normal(size=(frames // 5 + 1, dimension))
    raw = 2 * rng.normal(size=dimension) + scenes[np.arange(frames) // 5] + 0.2 * rng.normal(size=(frames, dimension))
    unit: Float32Array = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--videos", type=int, default=20)
    arguments = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    videos = {
        VectorKey(f"{i:032x}", "01"): drifting(rng, arguments.frames, arguments.dimension)
        for i in range(arguments.videos)
    }
    query = drifting(rng, 1, arguments.dimension)[0]
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for backend in STORES.names:
            rows[backend] = measure_store(Path(folder) / backend, backend, videos, query)
        rows["raw faiss file"] = measure_raw_faiss(Path(folder) / "faiss", videos, query)
        rows["raw lancedb"] = measure_raw_lance(Path(folder) / "raw-lance", videos, query)
    columns = ("write_ms", "open_and_search_ms", "search_ms")
    print_table(
        ["layout", *columns],
        [[name, *(f"{row[c]:.2f}" if c in row else "" for c in columns)] for name, row in rows.items()],
    )
    ratio = rows["lancedb"]["open_and_search_ms"] / rows["faiss"]["open_and_search_ms"]
    print(f"LanceDB takes {ratio:.1f} times as long as FAISS to open and search one video")
    settings = {"frames": arguments.frames, "dimension": arguments.dimension, "videos": arguments.videos, "top": TOP}
    write_result("stores", {"settings": settings, "rows": rows, "lancedb_over_faiss": ratio}, arguments.out)


def measure_store(
    folder: Path, backend: str, videos: dict[VectorKey, Float32Array], query: Float32Array
) -> dict[str, float]:
    """Write, open and search through the store of this project."""
    folder.mkdir()
    store = open_store(folder, backend)
    write_ms = statistics.median(
        milliseconds(partial(store.write, key, vectors), repeat=1) for key, vectors in videos.items()
    )
    warm_ms = statistics.median(milliseconds(partial(store.search, key, query, TOP)) for key in videos)
    store.close()

    def cold(key: VectorKey) -> None:
        opened = open_store(folder, backend)
        opened.search(key, query, TOP)
        opened.close()

    open_ms = statistics.median(milliseconds(partial(cold, key)) for key in videos)
    return {"write_ms": write_ms, "open_and_search_ms": open_ms, "search_ms": warm_ms}


def measure_raw_faiss(folder: Path, videos: dict[VectorKey, Float32Array], query: Float32Array) -> dict[str, float]:
    """faiss.read_index and search on the very files of the store."""
    import faiss

    faiss.omp_set_num_threads(1)
    files = sorted(folder.rglob("*.faiss"))
    assert len(files) == len(videos), "the store's files are not where this benchmark looks for them"

    def open_and_search(file: Path) -> None:
        faiss.read_index(str(file)).search(query[None], TOP)

    opened = [faiss.read_index(str(file)) for file in files]
    return {
        "open_and_search_ms": statistics.median(milliseconds(partial(open_and_search, file)) for file in files),
        "search_ms": statistics.median(milliseconds(partial(index.search, query[None], TOP)) for index in opened),
    }


def measure_raw_lance(folder: Path, videos: dict[VectorKey, Float32Array], query: Float32Array) -> dict[str, float]:
    """One table, a BTREE on the video, a filtered search: what a user of LanceDB would write."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import BTree

    dimension = len(query)
    batches = []
    for key, vectors in videos.items():
        flat = pa.array(vectors.astype(np.float16).reshape(-1), type=pa.float16())
        columns = [
            pa.array([str(key)] * len(vectors)),
            pa.array(range(len(vectors))),
            pa.FixedSizeListArray.from_arrays(flat, dimension),
        ]
        batches.append(pa.table(columns, names=["video_id", "row", "vector"]))
    table = lancedb.connect(str(folder)).create_table("frames", pa.concat_tables(batches))
    table.create_index("video_id", config=BTree())

    def search(opened: Any, key: VectorKey) -> None:
        opened.search(query).distance_type("dot").where(f"video_id = '{key}'", prefilter=True).select(
            ["row", "_distance"]
        ).limit(TOP).to_arrow()

    def open_and_search(key: VectorKey) -> None:
        search(lancedb.connect(str(folder)).open_table("frames"), key)

    return {
        "open_and_search_ms": statistics.median(milliseconds(partial(open_and_search, key)) for key in videos),
        "search_ms": statistics.median(milliseconds(partial(search, table, key)) for key in videos),
    }


def milliseconds(action: Callable[[], object], *, repeat: int = 3) -> float:
    """The best of some runs."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    run_command(main)
