"""Moment recall: the share of the evidence that has a selected frame nearby.

For evidence e_1..e_M, selected times S and a tolerance tau in seconds (inclusive):

    recall@tau = |{ i : min over s in S of |s - e_i| <= tau }| / M

Averaged over questions with the weight M it is the micro recall (a share of moments), without
weights the macro recall (a mean over questions). It is the measure with which published selections
are compared on LongVideoBench, where tau is 1, 2 or 5 seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.metrics.nearest import evidence_distances
from hybrid.errors import InputError

__all__ = ["moment_recall"]


def moment_recall(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike, *, within_seconds: float) -> float:
    """The share of the evidence with a selected frame at most ``within_seconds`` away.

    Args:
        selected_seconds: [K] times of the selected frames; none gives 0.
        evidence: moments [M] or spans [M, 2] in seconds, at least one.
        within_seconds: tolerance, 0 or more; for a span it counts from its ends.

    Raises:
        InputError: no evidence (there is no share of nothing: leave such a question out), or a
            negative tolerance.
    """
    if within_seconds < 0:
        raise InputError(f"within_seconds is {within_seconds}; it must be 0 or more")
    distances = evidence_distances(selected_seconds, evidence)
    if len(distances) == 0:
        raise InputError("there is no evidence, so there is no recall; leave this question out")
    return float(np.mean(distances <= within_seconds))
