"""Best scores first, ties spread evenly: how GenS's scores become K frames.

Frames are taken score by score, best first, until K are chosen (K = min(number retrieved, budget),
GenS, arXiv 2503.09146, section 2.2: frames without a score are never added to fill the budget).
Where the last score that still fits has more frames than there are places, GenS's released code
draws at random (Aria-RAG-Eval, ``rag_utils``); here the places are spread evenly over those
frames in time order, so that the same scores always give the same frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, check_budget
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["best_first"]


def best_first(scores: npt.ArrayLike, frames: int) -> IntArray:
    """Choose at most ``frames`` rows with the best scores.

    Args:
        scores: [N] in time order. 0 means "no score", unless a score is negative: then they are on another scale
            than GenS's (cosines, logits), and every row has one.
        frames: the budget, at least 1.

    Returns:
        int64, increasing rows; fewer than ``frames`` if fewer have a score.

    Raises:
        InputError: a budget below 1, or scores that are not finite.
    """
    frames = check_budget(frames)
    values = as_scores(scores)
    scored = values if (values < 0).any() else values[values > 0]
    chosen: list[int] = []
    for score in np.unique(scored)[::-1].tolist():
        rows = np.flatnonzero(values == score)
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
    summary="the best scores, equal ones spread evenly; frames that GenS gave none are never added",
    source="GenS (arXiv 2503.09146)",
)
