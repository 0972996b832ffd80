"""How far the evidence lies from the selected frames, and the selected frames from the evidence, in seconds.

Every measure with a tolerance is a count over these distances. Evidence is either moments, float64
[M], or spans, float64 [M, 2] with start and end, both of which belong to the span; a moment is a
span of no length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.values import FloatArray

__all__ = ["as_spans", "evidence_distances", "selection_distances"]


def as_spans(evidence: npt.ArrayLike) -> FloatArray:
    """Evidence as spans: float64 [M, 2]; moments become spans of no length.

    Raises:
        InputError: another shape, a time that is not a finite number, or a span that ends before it starts.
    """
    times = np.asarray(evidence, dtype=np.float64)
    if times.size == 0:
        return np.zeros((0, 2))
    spans: FloatArray = np.stack([times, times], axis=1) if times.ndim == 1 else times
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise InputError(
            f"evidence has the shape {list(times.shape)}; it must be [M] moments or [M, 2] spans, in seconds"
        )
    if not np.isfinite(spans).all():
        raise InputError("evidence holds a time that is not a finite number of seconds")
    if (spans[:, 1] < spans[:, 0]).any():
        raise InputError("evidence holds a span that ends before it starts")
    return spans


def evidence_distances(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike) -> FloatArray:
    """Seconds from each piece of evidence to the selected frame nearest to it.

    Args:
        selected_seconds: [K] times of the selected frames.
        evidence: moments [M] or spans [M, 2].

    Returns:
        float64 [M]; 0 where a frame lies inside the span, infinite if nothing is selected.

    Raises:
        InputError: evidence of another shape.
    """
    gaps = _gaps(selected_seconds, evidence)
    nearest: FloatArray = gaps.min(axis=1, initial=np.inf)
    return nearest


def selection_distances(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike) -> FloatArray:
    """Seconds from each selected frame to the evidence nearest to it.

    Returns:
        float64 [K]; infinite if there is no evidence.

    Raises:
        InputError: evidence of another shape.
    """
    gaps = _gaps(selected_seconds, evidence)
    nearest: FloatArray = gaps.min(axis=0, initial=np.inf)
    return nearest


def _gaps(selected_seconds: npt.ArrayLike, evidence: npt.ArrayLike) -> npt.NDArray[Any]:
    """Distances of every piece of evidence to every frame: float64 [M, K]."""
    selected = np.asarray(selected_seconds, dtype=np.float64).reshape(-1)
    if not np.isfinite(selected).all():
        raise InputError("a selected frame has a time that is not a finite number of seconds")
    spans = as_spans(evidence)
    before = spans[:, :1] - selected[None, :]
    after = selected[None, :] - spans[:, 1:]
    gaps: npt.NDArray[Any] = np.maximum(np.maximum(before, after), 0.0)
    return gaps
