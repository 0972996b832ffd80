"""AKS: split the video in halves until a part's best frames stand out, then take each part's best.

Adaptive keyframe sampling (CVPR 2025, arXiv 2502.21271). Scores are scaled to z in 0..1 over the whole
video, once. A node [lo, hi) at depth d, beginning with the whole video at depth 0:

    top = mean of the min(K, hi - lo) largest z in it            (K is the whole budget)
    top - mean(z) > threshold  and  std(z) > least_std           -> leaf
    else if d < depth                                            -> halves, split at lo + floor(len / 2)
    else                                                         -> leaf

and each leaf at depth d gives its floor(K / 2^d) best frames. Ties go to the earlier frame.

The released defaults are threshold 0.8, depth 5, least_std -100 (so that its test always holds). The
frames published for LongVideoBench follow depth 3 at K = 64 and depth 5 at K = 32.

``faithful=True`` returns what the released code does: with K < 2^depth nothing at all, with a K that is
no multiple of 2^depth fewer than K, and all candidates if there are fewer than K. By default the depth is
at most floor(log2 K), and the rest of the budget goes to the best unused scores. Equal scores
throughout divide 0 by 0 in the released code; here z is then 0 in both.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, best_rows, fill, min_max, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["aks"]


def aks(
    scores: npt.ArrayLike,
    frames: int,
    *,
    depth: int = 5,
    threshold: float = 0.8,
    least_std: float = -100.0,
    faithful: bool = False,
) -> IntArray:
    """Choose rows by adaptive keyframe sampling.

    Args:
        scores: [N], more is better.
        frames: the budget, at least 1.
        depth: how often the video may be halved, 0 or more.
        threshold: how far the best frames of a part must stand above its mean, of scores in 0..1.
        least_std: the standard deviation above which a part may be a leaf.
        faithful: see above.

    Returns:
        int64, increasing; by default ``min(N, frames)`` of them.

    Raises:
        InputError: a negative depth, or scores that are not finite.
    """
    require(depth >= 0, "depth", depth, "0 or more")
    values = as_scores(scores)
    if len(values) < frames or (len(values) == frames and not faithful):
        return np.arange(len(values), dtype=np.int64)
    deepest = depth if faithful else min(depth, frames.bit_length() - 1)
    z = min_max(values)
    chosen = [
        low + best_rows(z[low:high], frames >> level)
        for low, high, level in _leaves(z, frames, deepest, threshold, least_std)
    ]
    rows = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
    return rows if faithful else fill(rows, z, frames)


def _leaves(
    z: FloatArray, frames: int, deepest: int, threshold: float, least_std: float
) -> Iterator[tuple[int, int, int]]:
    """(start, end, depth) of the leaves in time order."""
    waiting = [(0, len(z), 0)]
    while waiting:
        low, high, level = waiting.pop()
        if low == high:
            continue
        if level == deepest or _stands_out(z[low:high], frames, threshold, least_std):
            yield low, high, level
            continue
        middle = low + (high - low) // 2
        waiting += [(middle, high, level + 1), (low, middle, level + 1)]


def _stands_out(part: FloatArray, frames: int, threshold: float, least_std: float) -> bool:
    largest = np.partition(part, len(part) - frames)[-frames:] if len(part) > frames else part
    return bool(largest.mean() - part.mean() > threshold and part.std() > least_std)


SELECTOR = Selector(
    aks,
    summary="halves the video until the best frames of a part stand out",
    source="AKS (CVPR 2025, arXiv 2502.21271)",
)
