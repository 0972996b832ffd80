"""MDP3: relevant to the question, and different from each other by a determinant.

MDP3 (ICCV 2025, arXiv 2501.02885) with unit embeddings f_i of the frames and q of the question:

    k(a, b) = sum over u = -3..1 of exp(-|a - b|^2 / (2 * 2^u))          (a sum: k(a, a) = 5)
    r_i = k(q, f_i),   L_ij = k(f_i, f_j)
    add, one by one, the row that maximises   (2 / balance) * sum of ln r_j + ln det L_S

balance is their lambda, 0.2. This is the search of the released code with its default of one segment for
the whole video; the paper's dynamic program over several segments is not done here. Published with
SigLIP; the embeddings here are those of the index. Ties go to the earlier frame.

Each step reads all embeddings once, so that an hour takes longer than with rules that read scores only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.greedy_determinant import greedy_determinant
from hybrid.selectors.ranking import as_vectors, first_equal_rows, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["mdp3"]

KERNELS = 5
"""u = -3..1: five Gaussians in the sum."""


def mdp3(embeddings: npt.ArrayLike, query: npt.ArrayLike, frames: int, *, balance: float = 0.2) -> IntArray:
    """Choose rows that are relevant and different.

    Args:
        embeddings: [N, D], unit vectors.
        query: [D], unit vector.
        frames: the budget, at least 1.
        balance: weight of difference against relevance, above 0 (lambda).

    Returns:
        int64 in the order of the choice; ``min(N, frames)`` of them.

    Raises:
        InputError: a balance that is not above 0, or shapes that do not fit.
    """
    require(balance > 0, "balance", balance, "above 0")
    # In float32, as in the index: exact enough for distances of unit vectors, in half the time of float64.
    vectors, question = as_vectors(embeddings), np.asarray(query)
    if question.shape != vectors.shape[1:] or not np.isfinite(question).all():
        raise InputError(
            f"the query has the shape {list(question.shape)}; it must be [{vectors.shape[1]}] like each of the "
            "embeddings, and finite"
        )
    if len(vectors) <= frames:
        return np.arange(len(vectors), dtype=np.int64)
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)

    def column(row: int) -> FloatArray:
        return _kernel(_distances(vectors, squares, vectors[row]))

    same = first_equal_rows(vectors)
    relevance = (2 / balance) * np.log(_kernel(_distances(vectors, squares, question)))[same]
    return greedy_determinant(relevance, np.full(len(vectors), float(KERNELS)), column, frames, same=same)


def _distances(vectors: npt.NDArray[Any], squares: FloatArray, point: npt.NDArray[Any]) -> FloatArray:
    """Squared distances of all vectors to one point: float64 [N]."""
    squared: FloatArray = np.maximum(squares + float(point.astype(np.float64) @ point) - 2.0 * (vectors @ point), 0.0)
    return squared


def _kernel(squared: FloatArray) -> FloatArray:
    """The sum of Gaussians. Each is the square of the next wider one: exp(-d/1) = exp(-d/2)^2 and so on."""
    gaussian: FloatArray = np.exp(-squared / 4.0)
    total: FloatArray = gaussian.copy()
    for _ in range(KERNELS - 1):
        gaussian = gaussian * gaussian
        total += gaussian
    return total


SELECTOR = Selector(
    mdp3,
    summary="relevant to the question and different from each other, by a determinant",
    source="MDP3 (ICCV 2025, arXiv 2501.02885)",
    partial="the released default of one segment; the paper's program over several segments is left out",
)
