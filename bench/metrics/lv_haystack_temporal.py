"""LV-Haystack's temporal precision, recall and F1, as its authors' code computes them.

T* (arXiv 2504.02259), mll-lab-nu/TStar, ``val_tstar_results.py``. For evidence G and selected P in seconds, per
question:

    precision = share of P with min |p - g| <= tolerance,   recall = share of G with min |g - p| <= tolerance
    F1 = 2 precision recall / (precision + recall), 0 if both are 0

with a tolerance of 5 s, inclusive. Repeated times count each. A data set's numbers are means over questions, F1
too; questions without evidence, and questions for which nothing was selected, are left out of all three (so a
method gains by answering only what it is sure of: how many were left out belongs beside the numbers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.metrics.moment_recall import moment_recall
from bench.metrics.precision import precision

__all__ = ["TemporalScore", "temporal_means", "temporal_score"]

TOLERANCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TemporalScore:
    """Precision, recall and F1 of one question, or means; ``questions`` count in them, ``left_out`` do not."""

    precision: float
    recall: float
    f1: float
    questions: int = 1
    left_out: int = 0


def temporal_score(
    selected_seconds: npt.ArrayLike, evidence_seconds: npt.ArrayLike, *, within_seconds: float = TOLERANCE_SECONDS
) -> TemporalScore | None:
    """The score of one question; None if it has no evidence or nothing was selected.

    Args:
        selected_seconds: [K].
        evidence_seconds: [M] moments.
        within_seconds: tolerance, 0 or more.

    Raises:
        InputError: a negative tolerance.
    """
    if np.size(selected_seconds) == 0 or np.size(evidence_seconds) == 0:
        return None
    share = precision(selected_seconds, evidence_seconds, within_seconds=within_seconds)
    found = moment_recall(selected_seconds, evidence_seconds, within_seconds=within_seconds)
    f1 = 2 * share * found / (share + found) if share + found > 0 else 0.0
    return TemporalScore(precision=share, recall=found, f1=f1)


def temporal_means(scores: Iterable[TemporalScore | None]) -> TemporalScore:
    """Means over the questions that have a score; all 0 if none has."""
    every = list(scores)
    counted = [score for score in every if score is not None]
    if not counted:
        return TemporalScore(precision=0.0, recall=0.0, f1=0.0, questions=0, left_out=len(every))
    return TemporalScore(
        precision=float(np.mean([score.precision for score in counted])),
        recall=float(np.mean([score.recall for score in counted])),
        f1=float(np.mean([score.f1 for score in counted])),
        questions=len(counted),
        left_out=len(every) - len(counted),
    )
