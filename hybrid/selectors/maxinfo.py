"""MaxInfo: the frames that span the video's content best, whatever the question.

MaxInfo (arXiv 2502.03183). A pool of uniform candidates, their embeddings F [P, D] reduced to ``rank``
columns by a singular value decomposition F = U S V^T, and the rows of the largest volume of A = U[:, :rank]:

1. square maxvol: rows B by pivoted elimination, then exchanges while some |A A_B^-1| exceeds 1.05, at most 10;
2. rectangular maxvol: C = A A_B^+ (least squares); add the row with the largest |C_i| while it exceeds ``tolerance``
   (Mikhalev and Oseledets, Rectangular maximum-volume submatrices and their applications, 2018, algorithm 2).

How many rows come out depends on the video; with 8 columns and a tolerance of 0.1 to 0.3, most of a pool.

``faithful=True`` follows the published notebooks: always a tolerance of 0.1, no upper limit, an odd
number loses its last frame, then evenly spaced ones of what is left. By default the later library code is
followed: the given tolerance and at most ``frames`` rows, by the order of the search. The decomposition is unique
up to signs and order of equal values, to which the volume does not react. Ties go to the earlier frame.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_vectors, first_equal_rows, require
from hybrid.selectors.selector import Selector
from hybrid.selectors.uniform import evenly
from hybrid.values import FloatArray, IntArray

__all__ = ["maxinfo", "rect_maxvol"]

NOTEBOOK_TOLERANCE = 0.1
EXCHANGE_ABOVE = 1.05
EXCHANGES = 10
DEGENERATE = 1e-9


def maxinfo(
    embeddings: npt.ArrayLike,
    frames: int,
    *,
    pool: int = 128,
    rank: int = 8,
    tolerance: float = 0.3,
    faithful: bool = False,
) -> IntArray:
    """Choose the rows of the largest volume.

    Args:
        embeddings: [N, D].
        frames: the budget, at least 1.
        pool: number of uniform candidates (64 "fast", 128 "slow" in the paper), never below the budget.
        rank: number of columns, at least 1.
        tolerance: of the rectangular search, above 0.
        faithful: see above.

    Returns:
        int64, increasing; at most ``frames``.

    Raises:
        InputError: a pool or rank below 1, a tolerance that is not above 0 and finite, or embeddings of
            another shape or with a number that is not finite.
    """
    for name, value in (("pool", pool), ("rank", rank), ("tolerance", tolerance)):
        require(0 < value < math.inf, name, value, "above 0 and finite")
    vectors = as_vectors(np.asarray(embeddings, dtype=np.float32))
    if len(vectors) == 0:
        return np.zeros(0, dtype=np.int64)
    rows = evenly(len(vectors), pool if faithful else max(pool, frames))
    left, strengths, _ = np.linalg.svd(vectors[rows].astype(np.float64), full_matrices=False)
    # Similar pictures span fewer directions than ``rank``; directions of no strength are noise.
    wide = int(np.count_nonzero(strengths > DEGENERATE * max(1.0, float(strengths.max(initial=0.0)))))
    if wide == 0:
        return rows[: 0 if faithful else 1]
    reduced = left[first_equal_rows(vectors[rows]), : min(rank, wide)]
    if not faithful:
        return np.sort(rows[rect_maxvol(reduced, tolerance=tolerance, most=frames)])
    picked = np.sort(rows[rect_maxvol(reduced, tolerance=NOTEBOOK_TOLERANCE)])
    picked = picked[: len(picked) // 2 * 2]
    return picked[evenly(len(picked), frames)]


def rect_maxvol(matrix: FloatArray, *, tolerance: float, most: int | None = None) -> IntArray:
    """Rows of a submatrix of large volume, in the order in which they are found.

    Args:
        matrix: float64 [N, r] of full column rank, N >= r.
        tolerance: stop once every row left out has coefficients of a smaller norm.
        most: upper limit; below r, the first of the square search are given.

    Returns:
        int64, at least r unless ``most`` is less.

    Raises:
        InputError: fewer rows than columns, columns that depend on each other, or numbers that are not finite.
    """
    if matrix.ndim != 2 or not 1 <= matrix.shape[1] <= len(matrix):
        raise InputError(f"the matrix has the shape {list(matrix.shape)}; it must be [N, r] with N >= r >= 1")
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise InputError(
            f"the {matrix.shape[1]} columns of the matrix depend on each other or are not finite, so that no rows span "
            "them; give fewer columns"
        )
    most = len(matrix) if most is None else min(most, len(matrix))
    chosen = _square_maxvol(matrix)
    same = first_equal_rows(matrix)
    coefficients = np.linalg.solve(matrix[chosen].T, matrix.T).T[same]
    norms = np.einsum("nk,nk->n", coefficients, coefficients)
    norms[chosen] = 0.0
    while len(chosen) < most:
        row = int(np.argmax(norms))
        if norms[row] <= tolerance**2:
            break
        # Adding the row is a rank-one change of the least squares problem.
        own = coefficients[row].copy()
        along = (coefficients @ own)[same]
        share = 1.0 / (1.0 + along[row])
        coefficients = np.column_stack([coefficients - share * np.outer(along, own), share * along])
        norms = np.maximum(norms - share * along**2, 0.0)
        chosen.append(row)
        norms[chosen] = 0.0
    return np.array(chosen[:most], dtype=np.int64)


def _square_maxvol(matrix: FloatArray) -> list[int]:
    """r rows whose square submatrix is nearly of the largest volume, by pivoting and exchanges."""
    chosen = _pivot_rows(matrix)
    same = first_equal_rows(matrix)
    for _ in range(EXCHANGES):
        coefficients = np.linalg.solve(matrix[chosen].T, matrix.T).T[same]
        row, column = np.unravel_index(int(np.argmax(np.abs(coefficients))), coefficients.shape)
        if abs(coefficients[row, column]) <= EXCHANGE_ABOVE:
            break
        chosen[int(column)] = int(row)
    return chosen


def _pivot_rows(matrix: FloatArray) -> list[int]:
    """The pivots of Gaussian elimination with row pivoting."""
    left = matrix.copy()
    chosen: list[int] = []
    for column in range(matrix.shape[1]):
        sizes = np.abs(left[:, column])
        sizes[chosen] = -1.0
        row = int(np.argmax(sizes))
        chosen.append(row)
        if column + 1 < matrix.shape[1]:
            left[:, column + 1 :] -= np.outer(left[:, column] / left[row, column], left[row, column + 1 :])
    return chosen


SELECTOR = Selector(
    maxinfo,
    summary="the frames that span the video's content best, whatever the question",
    source="MaxInfo (arXiv 2502.03183)",
)
