"""Bin-max: the best score around each of K evenly spaced prototypes.

    prototypes  p_i = round(i ((N - 1) / (K - 1))),  half to even;   K = 1: p_0 = N - 1
    a row belongs to the nearest prototype (equally near to two: the earlier); the best row of each

The rule of TSPO (arXiv 2508.04369) on Video-MME. Unlike the parts of the stratified argmax, its first
and last bins are half as wide. Ties go to the earlier frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, best_of_parts
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["bin_max"]


def bin_max(scores: npt.ArrayLike, frames: int) -> IntArray:
    """Choose the best row of each bin; ``min(N, frames)`` rows.

    Args:
        scores: [N], more is better.
        frames: the budget, at least 1.

    Returns:
        int64, increasing.

    Raises:
        InputError: scores that are not finite.
    """
    values = as_scores(scores)
    count = len(values)
    if count <= frames:
        return np.arange(count, dtype=np.int64)
    if frames == 1:
        return np.array([int(np.argmax(values))], dtype=np.int64)
    # The step is rounded before it is multiplied, as in the authors' code: where i times it lies half way between
    # two rows, its last bit decides.
    step = (count - 1) / (frames - 1)
    prototypes = np.array([round(i * step) for i in range(frames)])
    # A row exactly between two prototypes belongs to the earlier, so bins end at the floor of the middle.
    ends = np.concatenate([[0], (prototypes[:-1] + prototypes[1:]) // 2 + 1, [count]])
    return best_of_parts(values, ends)


SELECTOR = Selector(
    bin_max, summary="the best score around each of K evenly spaced rows", source="TSPO (AAAI 2026, arXiv 2508.04369)"
)
