"""Stratified argmax: the best score of each of K equal parts of the video.

    part b = rows floor(b N / K) .. floor((b + 1) N / K) - 1,   K = min(N, frames)

The final step of PEEK (momentslab/peek, BMVC 2026). Ties go to the earlier frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, best_of_parts
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["stratified"]


def stratified(scores: npt.ArrayLike, frames: int) -> IntArray:
    """Choose the best row of each part; ``min(N, frames)`` rows.

    Args:
        scores: [N], more is better.
        frames: the budget, at least 1.

    Returns:
        int64, increasing.

    Raises:
        InputError: scores that are not finite.
    """
    values = as_scores(scores)
    parts = min(len(values), frames)
    ends = np.arange(parts + 1) * len(values) // max(parts, 1)
    return best_of_parts(values, ends)


SELECTOR = Selector(stratified, summary="the best score of each of K equal parts", source="PEEK (BMVC 2026)")
