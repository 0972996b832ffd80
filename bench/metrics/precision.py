"""Precision: the share of the selected frames that lie near evidence.

    precision@tau = |{ s in S : min over i of |s - e_i| <= tau }| / |S|

A frame that is selected twice counts twice. Nothing selected gives 0, as nothing useful was shown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.metrics.nearest import selection_distances
from hybrid.errors import InputError

__all__ = ["precision"]


def precision(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike, *, within_seconds: float) -> float:
    """The share of selected frames at most ``within_seconds`` from some evidence; 0 if none is selected.

    Args:
        selected_seconds: [K] times of the selected frames.
        evidence: moments [M] or spans [M, 2] in seconds.
        within_seconds: tolerance, 0 or more.

    Raises:
        InputError: a negative tolerance, or evidence of another shape.
    """
    if within_seconds < 0:
        raise InputError(f"within_seconds is {within_seconds}; it must be 0 or more")
    distances = selection_distances(selected_seconds, evidence)
    return float(np.mean(distances <= within_seconds)) if len(distances) else 0.0
