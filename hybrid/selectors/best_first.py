"""Best scores first, ties spread evenly: how GenS's scores become K frames.

Frames are taken score by score, best first, until K are chosen (K = min(number retrieved, budget),
GenS, arXiv 2503.09146, section 2.2: frames without a score are never added to fill the budget).
Where the last score that still fits has more frames than there are places, GenS's released code
draws at random (Aria-RAG-Eval, ``rag_utils``); here the places are spread evenly over those
frames in time order, so that the same scores always give the same frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import check_budget
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["best_first"]


def best_first(scores: npt.NDArray[Any], frames: int) -> IntArray:
    """Choose at most ``frames`` rows with the best scores.

    Args:
        scores: [N] in time order; 0 or less means: not to be chosen.
        frames: the budget, at least 1.

    Returns:
        int64, increasing rows; fewer than ``frames`` if fewer have a score.

    Raises:
        InputError: a budget below 1.
    """
    frames = check_budget(frames)
    chosen: list[int] = []
    for score in sorted({float(score) for score in scores if score > 0}, reverse=True):
        rows = np.flatnonzero(scores == score)
        chosen.extend(int(row) for row in spread(rows, frames - len(chosen)))
        if len(chosen) == frames:
            break
    return np.array(sorted(chosen), dtype=np.int64)


def spread(rows: IntArray, places: int) -> IntArray:
    """``places`` of ``rows``, evenly: the middle one of each of ``places`` equal parts."""
    if places >= len(rows):
        return rows
    middles = ((np.arange(places) + 0.5) * len(rows) / places).astype(np.int64)
    return rows[middles]


SELECTOR = Selector(
    name="best_first",
    choose=best_first,
    summary="the best scores above 0, equal ones spread evenly; never fills the budget",
    source="GenS (arXiv 2503.09146)",
)
