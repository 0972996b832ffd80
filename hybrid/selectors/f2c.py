"""F2C (frames to clips): peaks of the scores, each with as many neighbours as pay for themselves.

From Frames to Clips (arXiv 2510.02262), after a third-party restatement of its algorithm 1 and equations
6 to 8; the authors' code was not available.

    valleys = {0, N - 1} and every row whose score is at most both neighbours'
    candidates = the best row of each basin between successive valleys
    more candidates than anchors A: 1-D K-means on time into A clusters, the best candidate of each
    l_max = side^2 K / A;   for each anchor the length l in 1..l_max that maximises
        mean score of the clip - redundancy * mean cosine of different frames in it + length * l / l_max
    scale of a clip = clip(sqrt(A l / K), 1, side): its pictures' sides are divided by it
    clips of the same scale that overlap are merged

with A = K, side = 2, redundancy = 0.5, length = 0.05. A clip is centred on its anchor (of an even length, one
row more after it) and shifted where the video ends. K-means starts from quantiles of the candidates.

``faithful=True`` gives all rows of these clips: up to 4 K frames, of which most are meant to be shown
small, so that the number of tokens stays that of K; :func:`f2c_clips` gives the clips with their scales. By default
the budget is one of frames in full size: side = 1 and A = K / 4, the same clips of up to 4, never more
than K rows, and the rest of the budget goes to the best unused scores. Ties go to the earlier frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_scores, as_vectors, fill, ranked
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["Clip", "f2c", "f2c_clips", "f2c_peaks"]

SIDE = 2.0
CLIP_FRAMES = 4
"""Longest clip: side^2 where there are as many anchors as frames."""

ROUNDING = 1e-9
"""Clips whose worths lie nearer to each other are equally good: the shorter one is taken."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Rows ``first`` to ``last``, both included, whose pictures' sides are divided by ``scale``."""

    first: int
    last: int
    scale: float


def f2c(
    scores: npt.ArrayLike,
    embeddings: npt.ArrayLike,
    frames: int,
    *,
    redundancy: float = 0.5,
    length: float = 0.05,
    faithful: bool = False,
) -> IntArray:
    """Choose the rows of the clips around the peaks.

    Args:
        scores: [N], more is better.
        embeddings: [N, D], unit vectors.
        frames: the budget in frames of full size, at least 1.
        redundancy: price of likeness within a clip.
        length: reward of a longer clip.
        faithful: see above.

    Returns:
        int64, increasing; by default ``min(N, frames)`` of them.

    Raises:
        InputError: shapes that do not fit.
    """
    values = as_scores(scores)
    if not faithful and len(values) <= frames:
        return np.arange(len(values), dtype=np.int64)
    anchors, side = (frames, SIDE) if faithful else (max(1, frames // CLIP_FRAMES), 1.0)
    clips = f2c_clips(values, embeddings, frames, anchors=anchors, side=side, redundancy=redundancy, length=length)
    rows = np.unique(np.concatenate([np.arange(clip.first, clip.last + 1) for clip in clips]))
    return rows.astype(np.int64) if faithful else fill(rows, values, frames)


def f2c_clips(
    scores: npt.ArrayLike,
    embeddings: npt.ArrayLike,
    frames: int,
    *,
    anchors: int,
    side: float = SIDE,
    redundancy: float = 0.5,
    length: float = 0.05,
) -> tuple[Clip, ...]:
    """The clips with their scales, in time order.

    Args:
        scores, embeddings, frames, redundancy, length: see :func:`f2c`.
        anchors: how many clips at most.
        side: largest scale, 1 or more.

    Raises:
        InputError: no candidate, a number of anchors below 1, or shapes that do not fit.
    """
    if anchors < 1 or side < 1:
        raise InputError(f"anchors is {anchors} and side {side}; both must be at least 1")
    values = as_scores(scores)
    vectors = as_vectors(embeddings, count=len(values))
    if len(values) == 0:
        raise InputError("there is no candidate to make clips of")
    longest = max(1, int(side**2 * frames / anchors))
    clips = []
    for anchor in _anchors(values, anchors).tolist():
        first, last = _clip(anchor, values, vectors, longest, redundancy, length)
        scale = float(np.clip(np.sqrt(anchors * (last - first + 1) / frames), 1.0, side))
        clips.append(Clip(first, last, scale))
    return _merged(clips)


def f2c_peaks(scores: npt.ArrayLike) -> IntArray:
    """The best row of each basin between two successive valleys: int64, increasing.

    A valley belongs to the basins on both of its sides, so that a peak at an end is found.
    """
    values = as_scores(scores)
    if len(values) < 3:
        return ranked(values)[:1]
    inner = 1 + np.flatnonzero((values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:]))
    valleys = np.concatenate([[0], inner, [len(values) - 1]])
    peaks = [low + int(np.argmax(values[low : high + 1])) for low, high in pairwise(valleys.tolist())]
    return np.unique(np.array(peaks, dtype=np.int64))


def _anchors(values: FloatArray, anchors: int) -> IntArray:
    peaks = f2c_peaks(values)
    if len(peaks) <= anchors:
        return peaks
    cluster = _clusters(peaks.astype(np.float64), anchors)
    best = [peaks[cluster == c][int(np.argmax(values[peaks[cluster == c]]))] for c in np.unique(cluster)]
    return np.sort(np.array(best, dtype=np.int64))


def _clusters(points: FloatArray, count: int, *, rounds: int = 100) -> IntArray:
    """1-D K-means of sorted points: the number of each one's cluster. A cluster never becomes empty here."""
    centres = np.quantile(points, (np.arange(count) + 0.5) / count)
    cluster = np.zeros(len(points), dtype=np.int64)
    for _ in range(rounds):
        borders = (centres[:-1] + centres[1:]) / 2
        moved = np.searchsorted(borders, points, side="left").astype(np.int64)
        if (moved == cluster).all():
            break
        cluster = moved
        sizes = np.bincount(cluster, minlength=count)
        sums = np.bincount(cluster, weights=points, minlength=count)
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)
    return cluster


def _clip(
    anchor: int, values: FloatArray, vectors: npt.NDArray[Any], longest: int, redundancy: float, length: float
) -> tuple[int, int]:
    best, chosen = -np.inf, (anchor, anchor)
    for frames in range(1, min(longest, len(values)) + 1):
        first = min(max(0, anchor - (frames - 1) // 2), len(values) - frames)
        part = slice(first, first + frames)
        worth = values[part].mean() - redundancy * _likeness(vectors[part]) + length * frames / longest
        if worth > best + ROUNDING:
            best, chosen = float(worth), (first, first + frames - 1)
    return chosen


def _likeness(vectors: npt.NDArray[Any]) -> float:
    """Mean cosine of different frames; 0 for one frame. |sum|^2 counts every pair twice and each frame once."""
    count = len(vectors)
    if count < 2:
        return 0.0
    total = vectors.sum(axis=0, dtype=np.float64)
    own = float(np.einsum("nd,nd->", vectors, vectors, dtype=np.float64))
    return float(total @ total - own) / (count * (count - 1))


def _merged(clips: list[Clip]) -> tuple[Clip, ...]:
    merged: list[Clip] = []
    for clip in sorted(clips, key=lambda c: (c.scale, c.first)):
        if merged and merged[-1].scale == clip.scale and clip.first <= merged[-1].last:
            merged[-1] = Clip(merged[-1].first, max(merged[-1].last, clip.last), clip.scale)
        else:
            merged.append(clip)
    return tuple(sorted(merged, key=lambda c: (c.first, c.last)))


SELECTOR = Selector(
    f2c,
    summary="short clips around the peaks of the scores",
    source="F2C (arXiv 2510.02262)",
    partial="after a third-party restatement; the authors' code was not available",
)
