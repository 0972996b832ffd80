"""The coarse stage: the frames of one video that are most similar to the question."""

from __future__ import annotations

import numpy as np

from hybrid.values import Hits, Window

__all__ = ["window_of_hits"]


def window_of_hits(hits: Hits, size: int) -> Window:
    """The best ``size`` frames of a search in time order, which is what GenS needs to read them.

    Args:
        hits: best first.
        size: at least 1; fewer hits give a smaller window.
    """
    order = np.argsort(hits.rows[:size], kind="stable")
    return Window(rows=hits.rows[:size][order], similarities=hits.similarities[:size][order])
