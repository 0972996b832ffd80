"""Best scores first, ties spread evenly: how GenS's scores become K frames.

Frames are taken score by score, best first, until K are chosen (K = min(number retrieved, budget),
GenS, arXiv 2503.09146, section 2.2: frames without a score are never added to fill the budget).
Where the last score that still fits has more frames than the rest of the budget, GenS's released code
draws at random (Aria-RAG-Eval, ``rag_utils``); here frames are taken evenly from them in time order,
so that the same scores always give the same frames.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores
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
        InputError: scores that are not finite.
    """
    values = as_scores(scores)
    scored = values if (values < 0).any() else values[values > 0]
    chosen: list[int] = []
    for score in np.unique(scored)[::-1].tolist():
        chosen += spread(np.flatnonzero(values == score), frames - len(chosen)).tolist()
        if len(chosen) == frames:
            break
    return np.array(sorted(chosen), dtype=np.int64)


def spread(rows: IntArray, count: int) -> IntArray:
    """``count`` of ``rows``, evenly: the middle one of each of ``count`` equal parts."""
    if count >= len(rows):
        return rows
    return rows[((np.arange(count) + 0.5) * len(rows) / count).astype(np.int64)]


SELECTOR = Selector(
    best_first,
    summary="the best scores, equal ones spread evenly; never a frame without a score of GenS",
    source="GenS (arXiv 2503.09146)",
)
