"""The similarities of some rows of many videos of a LanceDB table, without reading the rest of them.

Rows are taken by their number in the table, which Lance finds at once. A video's rows were written one behind
the other, so the number of its first one gives all of them; but a compaction may move them, so what
comes back must say that it is what was asked for. What does not is left to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrid.values import Float32Array, IntArray
from indexes.format.layout import VectorKey, keys_of
from indexes.stores.vectors import Float16Array, RunProofs, are_proven, similarities

__all__ = ["FirstRows", "score_rows"]


class FirstRows:
    """The number of each video's first row in a table, looked up anew when the table has changed."""

    def __init__(self) -> None:
        self._version = -1
        self._numbers: dict[VectorKey, int] = {}

    def of(self, table: Any) -> Mapping[VectorKey, int]:
        """The numbers, by video and generation."""
        version = int(table.version)
        if version != self._version:
            query = table.search().where("row = 0").select(["video_id", "generation"]).with_row_id(True)
            found = query.to_arrow()
            numbers = found["_rowid"].to_pylist()
            keys = keys_of(found["video_id"].to_pylist(), found["generation"].to_pylist())
            self._numbers = {key: numbers[index] for index, key in keys.items()}
            self._version = version
        return self._numbers


def score_rows(
    table: Any,
    first: Mapping[VectorKey, int],
    rows: Mapping[VectorKey, IntArray],
    query: Float32Array,
    proofs: Mapping[VectorKey, RunProofs],
) -> dict[VectorKey, Float32Array]:
    """Similarities of the rows of each video that are where they were thought to be, and are what was written.

    Args:
        table: of the query's dimension.
        first: see :class:`FirstRows`.
        rows: which rows of which vectors, increasing.
        query: float32 [D].
        proofs: what rows are known by, of the videos whose vectors were not hashed as a whole.
    """
    known = {key: chosen for key, chosen in rows.items() if key in first}
    if not known:
        return {}
    numbers = np.concatenate([first[key] + chosen for key, chosen in known.items()])
    # Lance gives them in order of its own; that of their numbers is certain.
    order = np.argsort(numbers, kind="stable")
    names = ["video_id", "generation", "row", "vector"]
    found = table.take_row_ids(numbers[order].tolist()).select(names).with_row_id().to_arrow()
    by_number = dict(zip(found["_rowid"].to_pylist(), range(found.num_rows), strict=True))
    vectors: Float16Array = found["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = vectors.reshape(-1, len(query))
    videos, generations = found["video_id"].to_pylist(), found["generation"].to_pylist()
    found_rows: IntArray = found["row"].to_numpy().astype(np.int64)
    scored: dict[VectorKey, Float32Array] = {}
    for key, chosen in known.items():
        indices = [by_number.get(number, -1) for number in (first[key] + chosen).tolist()]
        if -1 in indices or (found_rows[indices] != chosen).any():
            continue
        if all(videos[index] == key.video_id and generations[index] == key.generation for index in indices):
            own = vectors[indices]
            if key not in proofs or are_proven(own, proofs[key]):
                scored[key] = similarities(own.astype(np.float32), query)
    return scored
