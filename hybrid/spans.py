"""From scored frames to time spans: pure functions on values.

A sampled frame stands for the time from its own time stamp to that of the next sampled frame. Stretches
of relevant frames are merged where they touch, or where the gap between them is within a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.answers import Scorer, Span
from hybrid.errors import InputError
from hybrid.values import FloatArray, IntArray, Timeline

__all__ = ["merge_spans", "spans_of_scores"]

DEFAULT_MIN_SCORE = 4
DEFAULT_GAP_SAMPLES = 1


def merge_spans(spans: Iterable[Span], *, gap_seconds: float = 0.0) -> tuple[Span, ...]:
    """Merge spans that overlap, touch, or lie at most ``gap_seconds`` apart.

    The result is sorted and disjoint, does not depend on the order of the input, and merging it
    again changes nothing. A merged span has the best score of its parts.

    Args:
        spans: in any order. All must come from the same scorer.
        gap_seconds: the largest gap between two spans that are merged, >= 0.

    Raises:
        InputError: a negative tolerance, or spans of different scorers.
    """
    if not gap_seconds >= 0:
        raise InputError(f"gap_seconds is {gap_seconds}; it must be 0 or more")
    ordered = sorted(spans, key=lambda span: (span.start_seconds, span.end_seconds))
    if len({span.scorer for span in ordered}) > 1:
        raise InputError("spans that were scored by GenS and by CLIP cannot be merged: their scores do not compare")
    groups: list[list[Span]] = []
    until = -math.inf
    for span in ordered:
        if span.start_seconds > until + gap_seconds or not groups:
            groups.append([])
        groups[-1].append(span)
        until = max(until, span.end_seconds)
    return tuple(group[0] if len(group) == 1 else _joined(group) for group in groups)


def _joined(group: list[Span]) -> Span:
    """One span of several that lie close together, in order of their starts."""
    start, end = group[0].start_seconds, max(span.end_seconds for span in group)
    score = max(span.score for span in group)
    stretches: list[tuple[float, float]] = []
    for since, until in sorted(
        span.best or (span.start_seconds, span.end_seconds) for span in group if span.score == score
    ):
        if stretches and since <= stretches[-1][1]:
            since, until = stretches[-1][0], max(until, stretches.pop()[1])
        stretches.append((since, until))
    # The longest; of equally long ones the first.
    best = min(stretches, key=lambda stretch: (stretch[0] - stretch[1], stretch[0]))
    even = all(span.score == score and span.best is None for span in group)
    partly = not even and best != (start, end)
    return Span(
        start_seconds=start,
        end_seconds=end,
        score=score,
        scorer=group[0].scorer,
        best_start_seconds=best[0] if partly else None,
        best_end_seconds=best[1] if partly else None,
    )


def spans_of_scores(
    timeline: Timeline,
    scores: npt.NDArray[Any],
    *,
    min_score: float = DEFAULT_MIN_SCORE,
    gap_samples: int = DEFAULT_GAP_SAMPLES,
    gap_seconds: float = 0.0,
    scorer: Scorer = "gens",
) -> tuple[Span, ...]:
    """The spans in which frames score at least ``min_score``.

    Args:
        timeline: the sampled frames, N rows.
        scores: [N], one score a row; a row without a score must lie below ``min_score`` (0 for
            GenS, -inf for similarities).
        min_score: the least score of a relevant frame.
        gap_samples: how many samples between two relevant ones may be without a score, or missing,
            and still be bridged. Counted on the grid (by key frames where only those are sampled),
            because the seconds between two samples vary by a frame.
        gap_seconds: the largest gap in seconds that is bridged as well.
        scorer: who gave the scores.

    Returns:
        Disjoint spans in time order, within the video.

    Raises:
        InputError: scores that are not one a row, or a negative tolerance.
    """
    if scores.shape != (len(timeline),):
        raise InputError(f"there are {len(timeline)} frames and {list(scores.shape)} scores; one a frame is needed")
    if gap_samples < 0:
        raise InputError(f"gap_samples is {gap_samples}; it must be 0 or more")
    rows = np.flatnonzero(scores >= min_score)
    samples = timeline.ordinals[rows] if timeline.sampling.policy == "exact" else rows
    until = timeline.until_seconds()
    stretches = (
        _span_of_rows(part, timeline.pts_seconds, until, scores, scorer)
        for part in np.split(rows, np.flatnonzero(np.diff(samples) > 1 + gap_samples) + 1)
        if len(part)
    )
    return merge_spans(stretches, gap_seconds=gap_seconds)


def _span_of_rows(
    rows: IntArray, since: FloatArray, until: FloatArray, scores: npt.NDArray[Any], scorer: Scorer
) -> Span:
    highest = scores[rows].max()
    best = np.flatnonzero(scores[rows] == highest)
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    # No two similarities are equal: a best stretch would be one frame.
    longest = max(runs, key=len) if scorer == "gens" and len(best) < len(rows) else None
    return Span(
        start_seconds=float(since[rows[0]]),
        end_seconds=float(until[rows[-1]]),
        score=float(highest),
        scorer=scorer,
        best_start_seconds=None if longest is None else float(since[rows[longest[0]]]),
        best_end_seconds=None if longest is None else float(until[rows[longest[-1]]]),
    )
