"""Windows: which frames of a video the fine stage reads, by their similarities to the question.

* scattered: the most similar frames, wherever they lie. (GenS as published.)
* with context: similarity finds the moment that a question names, not the one that it asks for: what comes after the
  door opens need not look like a door. So each of the best frames brings the frames around it along, the best one
  first, until the window is full. (Our own.)
* segments: the video is cut once, and its most similar segments are read. Windows that follow the question differ from
  one question to the next; segments are the same for all, so that what the model has read of one serves all of them.
"""

from __future__ import annotations

import numpy as np

from hybrid.errors import InputError
from hybrid.values import FloatArray, Hits, IntArray, Window

__all__ = ["BEST_OF_SEGMENT", "best_segments", "cut_segments", "window_of_hits", "window_with_context"]

BEST_OF_SEGMENT = 8
"""How many of a segment's most similar frames speak for it: one alone may be chance, all would drown an event."""


def window_of_hits(hits: Hits, size: int) -> Window:
    """The best ``size`` frames of a search in time order, which is what GenS needs to read them.

    Args:
        hits: best first.
        size: at least 1; fewer hits give a smaller window.
    """
    order = np.argsort(hits.rows[:size], kind="stable")
    return Window(rows=hits.rows[:size][order], similarities=hits.similarities[:size][order])


def window_with_context(
    hits: Hits, rows: IntArray, pts_seconds: FloatArray, *, size: int, context_seconds: float
) -> Window:
    """Of ``size`` frames the best and their surroundings, in time order.

    Args:
        hits: similarities of all the rows, best first.
        rows: int64 [N], increasing: the frames that may be shown.
        pts_seconds: float64 [N], when each of them is shown.
        size: at least 1; with fewer rows all of them are the window.
        context_seconds: how far before and after a frame its surroundings reach; with 0 the window is
            that of :func:`window_of_hits`.
    """
    index = np.searchsorted(rows, hits.rows)
    first = np.searchsorted(pts_seconds, pts_seconds[index] - context_seconds, side="left")
    end = np.searchsorted(pts_seconds, pts_seconds[index] + context_seconds, side="right")
    taken = np.zeros(len(rows), dtype=bool)
    left = min(size, len(rows))
    for centre, start, stop in zip(index.tolist(), first.tolist(), end.tolist(), strict=True):
        around = start + np.flatnonzero(~taken[start:stop])
        nearest = around[np.argsort(np.abs(pts_seconds[around] - pts_seconds[centre]), kind="stable")][:left]
        taken[nearest] = True
        left -= len(nearest)
        if left == 0:
            break
    similarities = np.empty(len(rows), dtype=np.float32)
    similarities[index] = hits.similarities
    return Window(rows=rows[taken], similarities=similarities[taken])


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
