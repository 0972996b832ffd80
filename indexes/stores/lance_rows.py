"""The rows of a LanceDB table: their columns, and the conditions that choose them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from indexes.format.layout import VectorKey, check_video_id
from indexes.stores.vectors import Float16Array

__all__ = ["filter_key", "filter_video", "schema", "to_batch", "to_vectors"]


def schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("generation", pa.string(), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), dimension), nullable=False),
        ]
    )


def to_batch(key: VectorKey, rounded: Float16Array) -> pa.RecordBatch:
    count, dimension = rounded.shape
    columns = [
        pa.array([key.video_id] * count),
        pa.array([key.generation] * count),
        pa.array(np.arange(count, dtype=np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(rounded.ravel()), dimension),
    ]
    return pa.record_batch(columns, schema=schema(dimension))


def to_vectors(column: pa.ChunkedArray) -> Float16Array:
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    vectors: Float16Array = np.concatenate(parts).reshape(-1, column.type.list_size)
    return vectors


def filter_video(video_id: str) -> str:
    return f"video_id = '{check_video_id(video_id)}'"


def filter_key(key: VectorKey) -> str:
    return f"{filter_video(key.video_id)} AND generation = '{key.generation}'"
