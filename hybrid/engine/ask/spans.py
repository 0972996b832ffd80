"""Spans of one question, with its tolerances."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from hybrid.answers import Scorer, Span
from hybrid.engine.work import Work
from hybrid.spans import DEFAULT_GAP_SAMPLES, spans_of_scores

__all__ = ["gens_spans", "spans_of"]


def gens_spans(work: Work, scores: npt.NDArray[Any]) -> tuple[Span, ...]:
    """The spans that GenS's scores give."""
    return spans_of(work, scores, work.options.min_score, "gens")


def spans_of(work: Work, scores: npt.NDArray[Any], min_score: float, scorer: Scorer) -> tuple[Span, ...]:
    """The spans of scores (one a row) that reach ``min_score``."""
    gap = work.options.gap_seconds
    return spans_of_scores(
        work.timeline,
        scores,
        min_score=min_score,
        gap_samples=DEFAULT_GAP_SAMPLES if gap is None else 0,
        gap_seconds=gap or 0.0,
        scorer=scorer,
    )
