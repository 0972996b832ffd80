"""DIG's refinement: the parts of the video whose reward stands out, and evenly spaced frames of them.

DIG (CVPR 2026, arXiv 2512.04000). The video is cut where neighbouring frames differ most; one frame of each
part (the r-frame) is given a reward. With n rewards and n + 1 boundaries b:

    z = 100 (r - min) / (max - min + 1e-8);   A = the parts with z > 0
    A is empty: the whole video;   one part i: [b[max(0, i - 2)], b[min(n - 1, i + 2)]]
    s1: on A, x = max(x - mean of x over all of A, 0) repeated until no further part becomes 0
    s2: on A, x = max(x - max(x) / 2, 0)
    the parts of s1 if they are no more than those of s2, else those of s2; none: the whole video
    each part i gives [b[max(0, i - 2)], b[min(n - 1, i + 2)]]; spans that touch are merged
    frames = K evenly spaced ones of the spans laid end to end

There are n + 1 boundaries but n - 1 caps them, so that the last is never reached; and if all of A are equally
good, s1 keeps none of them and the whole video is taken. ``faithful=True`` keeps both; the default caps at n, and
then takes those of s2. DIG first asks a language model whether the question is about the whole video
(then: uniform) and takes boundaries from DINOv2 features and rewards from a language model; here they
come from the index's embeddings and from the scores, whose scale does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_scores, as_vectors, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["dig", "dig_boundaries", "dig_frames", "dig_spans"]

REACH = 2


def dig(
    scores: npt.ArrayLike,
    embeddings: npt.ArrayLike,
    frames: int,
    *,
    prominence: float = 0.1,
    faithful: bool = False,
) -> IntArray:
    """Choose evenly spaced rows of the parts that stand out.

    Args:
        scores: [N], more is better; only those of the parts' middle frames count.
        embeddings: [N, D], unit vectors; they decide where parts begin.
        frames: the budget, at least 1.
        prominence: how far a dip of the cosine of neighbours must stand out to be a cut, 0 or more.
        faithful: see above.

    Returns:
        int64, increasing; by default none twice. If the parts hold fewer rows than the budget, those.

    Raises:
        InputError: a negative prominence, or shapes that do not fit.
    """
    require(prominence >= 0, "prominence", prominence, "0 or more")
    values = as_scores(scores)
    vectors = as_vectors(embeddings, count=len(values))
    if len(values) <= frames:
        return np.arange(len(values), dtype=np.int64)
    boundaries = dig_boundaries(vectors, prominence=prominence)
    middles = (boundaries[:-1] + boundaries[1:]) // 2
    spans = dig_spans(values[middles], boundaries, faithful=faithful)
    rows = dig_frames(spans, frames)
    return rows if faithful else np.unique(rows)


def dig_boundaries(embeddings: npt.ArrayLike, *, prominence: float = 0.1) -> IntArray:
    """Where the parts meet: row 0, each cut, and the last row; int64, increasing.

    A cut is the last row before a change: 1 - cos of it and the next has a peak of at least that prominence.
    """
    vectors = np.asarray(embeddings)
    count = len(vectors)
    if count < 2:
        return np.array([0, 0], dtype=np.int64)
    change = 1.0 - np.einsum("nd,nd->n", vectors[1:], vectors[:-1], dtype=np.float64)
    return np.unique(np.concatenate([[0], _peaks(change, prominence), [count - 1]])).astype(np.int64)


def dig_spans(rewards: npt.ArrayLike, boundaries: npt.ArrayLike, *, faithful: bool = False) -> list[tuple[int, int]]:
    """The spans that stand out, both ends included, in the unit of the boundaries, disjoint and in order.

    Args:
        rewards: [n], of the parts.
        boundaries: [n + 1], increasing.
        faithful: see the module.

    Raises:
        InputError: not one boundary more than rewards, or no reward.
    """
    r, b = as_scores(rewards), np.asarray(boundaries, dtype=np.int64)
    n = len(r)
    if n == 0 or b.shape != (n + 1,):
        raise InputError(f"{n} rewards need {n + 1} boundaries, at least 1 and 2, not {list(b.shape)}")
    # In this order, as the authors have it: a mean may equal a reward, and then the last bit decides.
    z = (r - r.min()) / (r.max() - r.min() + 1e-8) * 100.0
    parts = np.flatnonzero(z > 0)
    if len(parts) > 1:
        parts = parts[_refined(z[parts], faithful=faithful)]
    if len(parts) == 0:
        return [(int(b[0]), int(b[-1]))]
    cap = n - 1 if faithful else n
    # Part i lies between boundaries i and i + 1; the authors count the reach from i on both sides.
    return _joined([(int(b[max(0, i - REACH)]), int(b[min(cap, i + REACH)])) for i in parts.tolist()])


def dig_frames(spans: list[tuple[int, int]], frames: int) -> IntArray:
    """``frames`` evenly spaced rows of the spans laid end to end, truncated to whole ones: int64, not decreasing."""
    rows = np.concatenate([np.arange(first, last + 1) for first, last in spans]).astype(np.int64)
    return rows[np.linspace(0, len(rows) - 1, frames).astype(np.int64)]


def _refined(z: FloatArray, *, faithful: bool) -> IntArray:
    """Which of the parts stand out, by the stricter of the two rules."""
    above_mean = z
    while True:
        lower = np.maximum(above_mean - above_mean.mean(), 0.0)
        more_zeros = ((lower == 0) & (above_mean > 0)).any()
        above_mean = lower
        if not more_zeros:
            break
    stricter = np.flatnonzero(above_mean > 0)
    above_half = np.flatnonzero(z > z.max() / 2)
    if len(stricter) == 0 and not faithful:
        return above_half
    return min(stricter, above_half, key=len)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _peaks(values: FloatArray, prominence: float) -> IntArray:
    """Positions of local maxima that stand out by at least ``prominence``; of a plateau the middle, rounded down.

    The prominence of a peak is its height above the higher of the two lowest points that lie between it
    and the next higher value (or the end) on either side.
    """
    found = [at for at in _maxima(values) if _prominence(values, at) >= prominence]
    return np.array(found, dtype=np.int64)


def _maxima(values: FloatArray) -> list[int]:
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values) != 0]))
    ends = np.append(starts[1:], len(values)) - 1
    heights = values[starts]
    inner = 1 + np.flatnonzero((heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:]))
    return [int(starts[i] + ends[i]) // 2 for i in inner]


def _prominence(values: npt.NDArray[Any], at: int) -> float:
    higher = np.flatnonzero(values > values[at])
    before, after = higher[higher < at], higher[higher > at]
    low = int(before[-1]) + 1 if len(before) else 0
    high = int(after[0]) if len(after) else len(values)
    return float(values[at] - max(values[low : at + 1].min(), values[at:high].min()))


SELECTOR = Selector(
    dig,
    summary="evenly spaced frames of the parts whose scores stand out",
    source="DIG (CVPR 2026, arXiv 2512.04000)",
    partial="refinement only: cuts from the index's embeddings, rewards from the scores, no question router",
)
