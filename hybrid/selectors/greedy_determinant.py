"""Greedy choice by relevance and the determinant of a kernel: the search that MDP3 and AdaRD-Key share.

The next row is the one with the largest  relevance_i + weight * ln d_i^2,  where d_i^2 is what is left of
the kernel's diagonal at i after the chosen rows S are projected out, so that the sum of ln d^2 over the
chosen rows is ln det L_S. It is updated by an incremental Cholesky factor (Chen, Zhang and Zhou,
Fast greedy MAP inference for determinantal point process, NeurIPS 2018): one kernel column and one
update of |S| numbers a row in each step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hybrid.values import FloatArray, IntArray

__all__ = ["greedy_determinant"]

LEAST_LEFT = 1e-6
"""Share of its diagonal below which a row counts as chosen already: float32 embeddings cannot tell the two apart.

Rounding errors of such rows must not rank them; only their relevance does.
"""


def greedy_determinant(
    relevance: FloatArray,
    diagonal: FloatArray,
    column: Callable[[int], FloatArray],
    frames: int,
    *,
    same: IntArray,
    weight: float = 1.0,
) -> IntArray:
    """Choose rows one by one.

    Args:
        relevance: float64 [N].
        diagonal: float64 [N], diagonal of the kernel, above 0.
        column: gives column j of the kernel, float64 [N].
        frames: how many to choose, at most N.
        same: int64 [N], the first row whose embedding equals that of each; see
            :func:`~hybrid.selectors.ranking.first_equal_rows`.
        weight: of the determinant.

    Returns:
        int64 [frames], in the order in which they were chosen; ties to the earlier row.
    """
    count = len(relevance)
    floor = LEAST_LEFT * diagonal
    left = diagonal.copy()
    factor = np.zeros((frames, count))
    free = np.ones(count, dtype=bool)
    chosen: list[int] = []
    for step in range(frames):
        gains = relevance + weight * np.log(left)
        row = int(np.argmax(np.where(free, gains, -np.inf)))
        chosen.append(row)
        free[row] = False
        if step + 1 < frames and left[row] > floor[row]:
            factor[step] = (column(row) - factor[:step, row] @ factor[:step]) / np.sqrt(left[row])
            left = np.maximum(left - factor[step] ** 2, floor)[same]
    return np.array(chosen, dtype=np.int64)
