"""Top-k: the K best scores.

What FRAG (arXiv 2504.17447), VideoITG (arXiv 2507.13353), SeViLA (arXiv 2305.06988), HORNet and, on
most benchmarks, TSPO (arXiv 2508.04369) do with their own scores. Ties go to the earlier frame.
"""

from __future__ import annotations

import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, best_rows
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["top_k"]


def top_k(scores: npt.ArrayLike, frames: int) -> IntArray:
    """Choose the ``min(N, frames)`` best rows.

    Args:
        scores: [N], more is better.
        frames: the budget, at least 1.

    Returns:
        int64, increasing.

    Raises:
        InputError: scores that are not finite.
    """
    return best_rows(as_scores(scores), frames)


SELECTOR = Selector(top_k, summary="the best scores", source="common (FRAG, VideoITG, SeViLA, TSPO)")
