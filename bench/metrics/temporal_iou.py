"""Temporal IoU of spans, and R@n, IoU = m: the measures of temporal grounding.

    IoU(A, B) = length of A and B together / length of A or B

For one predicted and one annotated span this is the IoU of Charades-STA (Gao et al., TALL, ICCV 2017); for
several, each side counts as the set of moments that it covers, so that overlapping spans of a side count once.

    R@n, IoU = m:  1 if one of the first n predicted spans has an IoU of at least m with the annotated span, else 0
    mIoU:          mean over questions of the IoU of the first prediction
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.metrics.nearest import as_spans
from hybrid.errors import InputError
from hybrid.values import FloatArray

__all__ = ["recall_at", "temporal_iou"]


def temporal_iou(predicted: npt.ArrayLike, evidence: npt.ArrayLike) -> float:
    """IoU of two sets of spans.

    Args:
        predicted: [P, 2] start and end in seconds.
        evidence: [M, 2].

    Returns:
        0 to 1; 0 if both sides have no length.

    Raises:
        InputError: spans of another shape, or that end before they start.
    """
    a, b = _union(as_spans(predicted)), _union(as_spans(evidence))
    both = sum(max(0.0, min(end, e) - max(start, s)) for start, end in a for s, e in b)
    either = _length(a) + _length(b) - both
    return float(both / either) if either > 0 else 0.0


def recall_at(predicted: npt.ArrayLike, evidence: npt.ArrayLike, *, first: int, iou: float) -> bool:
    """Whether one of the ``first`` predicted spans has an IoU of at least ``iou`` with the annotated span.

    Args:
        predicted: [P, 2] in seconds, best first.
        evidence: [2] or [1, 2], one span.
        first: n, at least 1.
        iou: m, above 0 and at most 1.

    Raises:
        InputError: more than one annotated span, or n or m out of range.
    """
    spans = as_spans(np.atleast_2d(np.asarray(evidence, dtype=np.float64)))
    if len(spans) != 1:
        raise InputError(f"R@n, IoU is defined for one annotated span, not {len(spans)}; temporal_iou takes several")
    if first < 1 or not 0 < iou <= 1:
        raise InputError(f"n is {first} and m {iou}; n must be at least 1, m above 0 and at most 1")
    return any(temporal_iou(span[None, :], spans) >= iou for span in as_spans(predicted)[:first])


def _union(spans: FloatArray) -> list[tuple[float, float]]:
    """Disjoint spans that cover the same moments, in order."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(map(tuple, spans.tolist())):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _length(spans: list[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)
