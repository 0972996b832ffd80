"""A window of the most similar frames together with what happens right before and after them.

Similarity finds the moment that a question names, not the one that it asks for: what comes after the
door opens need not look like a door. So each of the best frames brings the frames around it along, the
best one first, until the window is full. (Our own; GenS as published takes the best frames alone.)
"""

from __future__ import annotations

import numpy as np

from hybrid.values import FloatArray, Hits, IntArray, Window

__all__ = ["window_with_context"]


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
            that of :func:`hybrid.retrieve.search.window_of_hits`.
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
