"""AdaRD-Key at a fixed balance: relevance plus what a frame adds to the volume of the chosen ones.

AdaRD-Key (arXiv 2510.02778), from second-hand descriptions of the greedy step; unit embeddings e_i:

    gain(i | S) = R_i + balance * ln( (1 + e) - g^T (G_S + e I)^-1 g ),   g = E_S e_i,  G_S = E_S E_S^T
    largest R below 0.4: R is ignored, and only the difference counts

Partial: the paper sets the balance for each video from the spread of R and from N / K by a formula whose
constants are not known, so it is fixed here, at by default 0.1; e is 1e-6. Both are our choice.

R is the matching probability of BLIP-2 there. ``faithful=True`` takes the scores as they are. By default
they are scaled to 0..1 first: cosines of CLIP are below 0.4, and the rule would always ignore them. Equal
scores are ignored in both. Ties go to the earlier frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.greedy_determinant import greedy_determinant
from hybrid.selectors.ranking import as_scores, as_vectors, first_equal_rows, min_max, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["adard_key"]

LEAST_RELEVANCE = 0.4
EPSILON = 1e-6


def adard_key(
    scores: npt.ArrayLike, embeddings: npt.ArrayLike, frames: int, *, balance: float = 0.1, faithful: bool = False
) -> IntArray:
    """Choose rows that are relevant and different.

    Args:
        scores: [N], more is better.
        embeddings: [N, D], unit vectors.
        frames: the budget, at least 1.
        balance: weight of difference against relevance, above 0.
        faithful: see above.

    Returns:
        int64, increasing; ``min(N, frames)`` of them.

    Raises:
        InputError: a balance that is not above 0, or shapes that do not fit.
    """
    require(balance > 0, "balance", balance, "above 0")
    values = as_scores(scores)
    vectors = as_vectors(embeddings, count=len(values))
    if len(values) <= frames:
        return np.arange(len(values), dtype=np.int64)
    relevance = values if faithful else min_max(values)
    if relevance.max() < LEAST_RELEVANCE:
        relevance = np.zeros(len(values))

    def column(row: int) -> FloatArray:
        products: FloatArray = (vectors @ vectors[row]).astype(np.float64)
        return products

    diagonal = np.full(len(values), 1.0 + EPSILON)
    same = first_equal_rows(vectors)
    return np.sort(greedy_determinant(relevance, diagonal, column, frames, same=same, weight=balance))


SELECTOR = Selector(
    adard_key,
    summary="relevance plus the volume that a frame adds, at a fixed balance",
    source="AdaRD-Key (arXiv 2510.02778)",
    partial="the balance is fixed: the paper's formula for it is not known",
)
