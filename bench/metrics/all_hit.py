"""All-hit: whether every piece of evidence of a question has a selected frame nearby.

    all_hit@tau = 1 if recall@tau = 1, else 0

A question that needs several moments at once cannot be answered from some of them, which a mean
recall hides.
"""

from __future__ import annotations

import numpy.typing as npt

from bench.metrics.moment_recall import moment_recall

__all__ = ["all_hit"]


def all_hit(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike, *, within_seconds: float) -> bool:
    """Whether all of the evidence has a selected frame at most ``within_seconds`` away.

    Args:
        selected_seconds: [K] times of the selected frames.
        evidence: moments [M] or spans [M, 2] in seconds, at least one.
        within_seconds: tolerance, 0 or more.

    Raises:
        InputError: no evidence, or a negative tolerance.
    """
    return moment_recall(selected_seconds, evidence, within_seconds=within_seconds) == 1.0
