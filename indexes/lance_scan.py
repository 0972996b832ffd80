"""Search all videos of a LanceDB table in one pass over its rows.

Looking up ten thousand videos one by one would take minutes; the table is read once instead, some
thousand rows at a time, and each run of rows of one video is compared with the query.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError
from hybrid.values import Float32Array, IntArray
from indexes.base import Found, VectorKey
from indexes.vectors import Float16Array, rank, similarities

__all__ = ["scan_table"]


class _Part(NamedTuple):
    """Some rows of one video."""

    key: VectorKey
    rows: IntArray
    similarities: Float32Array


def scan_table(
    batches: Iterator[Any], wanted: Collection[VectorKey], query: Float32Array, top: int, *, threads: int
) -> Iterator[Found]:
    """The best rows of each wanted video that the batches hold.

    Args:
        batches: record batches with the columns ``video_id``, ``generation``, ``row``, ``vector``.
        wanted: whose rows count.
        query: float32 [D].
        top: of each video.
        threads: how many batches are compared at once.
    """
    parts: dict[VectorKey, list[_Part]] = {}
    names = frozenset(wanted)
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="hybrid-scan") as pool:
        waiting: deque[Future[list[_Part]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_compare, batch, names, query))
            if len(waiting) > threads:
                _keep(parts, waiting.popleft().result())
        for future in waiting:
            _keep(parts, future.result())
    for key, pieces in parts.items():
        rows = np.concatenate([piece.rows for piece in pieces])
        # A row is there once, and none is missing before the last.
        if len(np.unique(rows)) != len(rows) or rows.max() != len(rows) - 1:
            yield Found(key, None, IndexDamagedError(f"LanceDB, video {key.video_id}: rows are lost or doubled"))
            continue
        yield Found(key, rank(rows, np.concatenate([piece.similarities for piece in pieces]), top), None)


def _keep(parts: dict[VectorKey, list[_Part]], found: list[_Part]) -> None:
    for part in found:
        parts.setdefault(part.key, []).append(part)


def _compare(batch: Any, wanted: frozenset[VectorKey], query: Float32Array) -> list[_Part]:
    vectors: Float16Array = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(-1, len(query))
    rows: IntArray = batch.column("row").to_numpy(zero_copy_only=False).astype(np.int64)
    parts = []
    for start, end, key in _runs(batch):
        if key in wanted:
            part = similarities(vectors[start:end].astype(np.float32), query)
            parts.append(_Part(key, rows[start:end], part))
    return parts


def _runs(batch: Any) -> Iterator[tuple[int, int, VectorKey]]:
    """Stretches of rows of one video and generation: beginning, end, key."""
    videos, generations = (batch.column(name).dictionary_encode() for name in ("video_id", "generation"))
    numbers: list[npt.NDArray[np.int32]] = [
        column.indices.to_numpy(zero_copy_only=False) for column in (videos, generations)
    ]
    if batch.num_rows == 0:
        return
    changes = np.flatnonzero((np.diff(numbers[0]) != 0) | (np.diff(numbers[1]) != 0)) + 1
    edges = [0, *changes.tolist(), batch.num_rows]
    for start, end in itertools.pairwise(edges):
        yield (
            start,
            end,
            VectorKey(
                videos.dictionary[int(numbers[0][start])].as_py(),
                generations.dictionary[int(numbers[1][start])].as_py(),
            ),
        )
