"""Search all videos of a LanceDB table in one pass over its rows.

Looking up ten thousand videos one by one would take minutes; the table is read once instead, some
thousand rows at a time, and each run of rows of one video is compared with the query. On the way the
rows are hashed, so that a video whose rows are not those that were committed is named.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hybrid.errors import IndexDamagedError
from hybrid.values import Float32Array, IntArray
from indexes.format.layout import VectorKey, key_of
from indexes.format.manifest import Committed
from indexes.stores.interface import Found
from indexes.stores.vectors import Float16Array, VectorsDigest, rank, similarities

__all__ = ["scan_table"]


class _Part(NamedTuple):
    """Some rows of one video."""

    key: VectorKey
    rows: IntArray
    vectors: Float16Array
    similarities: Float32Array


class _Rows:
    """The rows of one video that came so far, without their vectors."""

    def __init__(self, committed: Committed, dimension: int, *, trusted: bool) -> None:
        self._committed = committed
        self._trusted = trusted
        self._digest = VectorsDigest(committed.vectors_hash, committed.rows, dimension)
        self._next = 0
        self._rows: list[IntArray] = []
        self._similarities: list[Float32Array] = []

    def add(self, part: _Part) -> None:
        if not self._trusted and self._next >= 0:
            in_order = (part.rows == np.arange(self._next, self._next + len(part.rows))).all()
            self._next = self._next + len(part.rows) if in_order else -1
            self._digest.update(part.vectors)
        self._rows.append(part.rows)
        self._similarities.append(part.similarities)

    def best(self, key: VectorKey, top: int) -> Found | None:
        """The best rows, or what is wrong; None if they did not come in order, so that their hash is not known."""
        rows = np.concatenate(self._rows)
        # A row is there once, and none is missing before the last.
        if len(np.unique(rows)) != len(rows) or rows.max() != len(rows) - 1:
            return Found(key, None, IndexDamagedError(f"LanceDB, video {key.video_id}: rows are lost or doubled"))
        if not self._trusted:
            if self._next < 0:
                return None
            if len(rows) != self._committed.rows or not self._digest.matches():
                why = f"LanceDB, video {key.video_id}: the vectors are not what was written"
                return Found(key, None, IndexDamagedError(why))
        return Found(key, rank(rows, np.concatenate(self._similarities), top), None)


def scan_table(
    batches: Iterator[Any],
    committed: Mapping[VectorKey, Committed],
    query: Float32Array,
    top: int,
    *,
    trusted: Collection[VectorKey],
    threads: int,
) -> Iterator[Found]:
    """The best rows of each video that the batches hold; nothing of one whose rows are not in order.

    Args:
        batches: record batches with the columns ``video_id``, ``generation``, ``row``, ``vector``.
        committed: whose rows count, and what they are known by.
        query: float32 [D].
        top: of each video.
        trusted: videos whose rows were hashed before.
        threads: how many batches are compared at once.
    """
    videos: dict[VectorKey, _Rows] = {}
    names = frozenset(committed)

    def keep(parts: list[_Part]) -> None:
        for part in parts:
            if part.key not in videos:
                known = part.key in trusted
                videos[part.key] = _Rows(committed[part.key], len(query), trusted=known)
            videos[part.key].add(part)

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="hybrid-scan") as pool:
        waiting: deque[Future[list[_Part]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(_compare, batch, names, query))
            if len(waiting) > threads:
                keep(waiting.popleft().result())
        for future in waiting:
            keep(future.result())
    for key, rows in videos.items():
        found = rows.best(key, top)
        if found is not None:
            yield found


def _compare(batch: Any, requested: frozenset[VectorKey], query: Float32Array) -> list[_Part]:
    vectors: Float16Array = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(-1, len(query))
    rows: IntArray = batch.column("row").to_numpy(zero_copy_only=False).astype(np.int64)
    parts = []
    for start, end, key in _runs(batch):
        if key is not None and key in requested:
            part = similarities(vectors[start:end].astype(np.float32), query)
            parts.append(_Part(key, rows[start:end], vectors[start:end], part))
    return parts


def _runs(batch: Any) -> Iterator[tuple[int, int, VectorKey | None]]:
    """Stretches of rows of one video and generation: beginning, end, key; None where the names are damaged."""
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
            key_of(
                videos.dictionary[int(numbers[0][start])].as_py(),
                generations.dictionary[int(numbers[1][start])].as_py(),
            ),
        )
