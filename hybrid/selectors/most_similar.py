"""The K frames most similar to the question: what is left when the fine stage does not run."""

from __future__ import annotations

import numpy as np

from hybrid.errors import InputError
from hybrid.values import Float32Array, IntArray

__all__ = ["most_similar"]


def most_similar(similarities: Float32Array, frames: int) -> IntArray:
    """Choose the ``frames`` places with the largest similarity; among equal ones the earlier.

    Args:
        similarities: float32 [N] in time order.
        frames: the budget, at least 1.

    Returns:
        int64, increasing places; all if there are fewer than ``frames``.

    Raises:
        InputError: a budget below 1.
    """
    if frames < 1:
        raise InputError(f"frames is {frames}; it must be at least 1")
    best = np.argsort(-similarities, kind="stable")[:frames]
    return np.sort(best).astype(np.int64)
