"""Uniform: frames at equal distances, whatever the question.

    all candidates if N <= K, else  trunc( i (N - 1) / (K - 1) ),  i = 0..K-1

First and last frame included, truncated to whole rows: the baseline of LLaVA-Video, AKS and TSPO.
``centred=True`` takes the middles of K equal parts instead, ``round((i + 0.5) N / K - 0.5)`` (half to
even; PEEK, momentslab/peek). K = 1 gives the first frame, or the middle one, ``floor(N / 2)``, if centred.
"""

from __future__ import annotations

import numpy as np

from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["evenly", "uniform"]


def uniform(seconds: FloatArray, frames: int, *, centred: bool = False) -> IntArray:
    """Choose ``min(N, frames)`` rows at equal distances.

    Args:
        seconds: [N] times of the candidates; only their number counts.
        frames: the budget, at least 1.
        centred: the middles of equal parts instead of first to last.

    Returns:
        int64, increasing.
    """
    return evenly(len(seconds), frames, centred=centred)


def evenly(count: int, frames: int, *, centred: bool = False) -> IntArray:
    """``min(count, frames)`` of ``count`` rows; see :func:`uniform`."""
    if count <= frames:
        return np.arange(count, dtype=np.int64)
    if centred and frames == 1:
        return np.array([count // 2], dtype=np.int64)
    if centred:
        return np.rint((np.arange(frames) + 0.5) * count / frames - 0.5).astype(np.int64)
    return np.linspace(0, count - 1, frames).astype(np.int64)


SELECTOR = Selector(
    uniform,
    summary="frames at equal distances, whatever the question",
    source="the usual baseline (LLaVA-Video, AKS, TSPO)",
)
