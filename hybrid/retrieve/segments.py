"""A video cut once into segments, and the segments that are most similar to a question.

Windows that follow the question differ from one question to the next. Segments are the same for all
of them, so that what the language model has read of one is good for every further question.
"""

from __future__ import annotations

import numpy as np

from hybrid.errors import InputError
from hybrid.values import Hits, IntArray, Window

__all__ = ["BEST_OF_SEGMENT", "best_segments", "cut_segments"]

BEST_OF_SEGMENT = 8
"""How many of a segment's most similar frames speak for it: one alone may be chance, all would drown an event."""


def cut_segments(rows: IntArray, size: int) -> list[IntArray]:
    """Cut the rows of a video into consecutive segments of nearly equal length.

    There are as few as ``size`` allows, and their lengths differ by one at most, so that no sliver is
    left over at the end. The cut depends on rows and size alone.

    Args:
        rows: int64, increasing: the distinct frames of the video.
        size: the most frames of a segment, at least 1.

    Raises:
        InputError: a size below 1.
    """
    if size < 1:
        raise InputError(f"window is {size}; it must be at least 1 frame")
    return list(np.array_split(rows, -(-len(rows) // size))) if len(rows) else []


def best_segments(segments: list[IntArray], hits: Hits, count: int) -> list[Window]:
    """The ``count`` segments that are most similar to the question, in time order.

    A segment counts as the mean similarity of its :data:`BEST_OF_SEGMENT` most similar frames (of all
    that it has, if these are fewer). Of equal ones the earlier is taken.

    Args:
        segments: disjoint rows.
        hits: similarities of all their rows.
        count: at least 1.
    """
    last = max(int(rows.max()) for rows in (hits.rows, *segments) if len(rows))
    similarity = np.full(last + 1, -np.inf, dtype=np.float32)
    similarity[hits.rows] = hits.similarities
    worth = [-float(np.sort(similarity[rows])[::-1][:BEST_OF_SEGMENT].mean()) for rows in segments]
    best = np.argsort(worth, kind="stable")[:count]
    return [Window(rows=segments[index], similarities=similarity[segments[index]]) for index in sorted(best)]
