"""Cut a video into units: short runs of frames that look alike and are looked for together.

Neighbouring samples of a video are near-duplicates, so a search for text need not compare each of them:
the mean of a run stands for it, and averaging takes away some of the noise that sets frames apart. A unit
ends where the picture changes, and no unit is longer than :data:`MOST_FRAMES`, so that a video without any
calm costs more units but no wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid.values import Float32Array, IntArray

__all__ = ["MOST_FRAMES", "Units", "cut_units"]

MOST_FRAMES = 16
"""Different frames of one unit, at most. Samples of a held frame count once."""

_LEAST_COSINE = 0.90
"""Of a frame and the mean of its unit."""

_CUT_COSINE = 0.80
"""Two neighbours with a lower cosine are never of one unit."""

_HALVINGS = 5
"""After so many a unit of 16 frames has one frame each."""


@dataclass(frozen=True, slots=True)
class Units:
    """The units of one video.

    Attributes:
        starts: int64 [U], increasing: the first row of each; the next one's start ends it.
        means: float32 [U, D]: the mean of each unit's different vectors, not of length 1.
    """

    starts: IntArray
    means: Float32Array


def cut_units(vectors: Float32Array) -> Units:
    """Cut a video where its picture changes.

    Args:
        vectors: float32 [N >= 1, D] unit vectors in order of time.
    """
    # A held frame would fill unit after unit with itself.
    fresh = np.ones(len(vectors), dtype=bool)
    fresh[1:] = (vectors[1:] != vectors[:-1]).any(axis=1)
    rows = np.flatnonzero(fresh)
    different = vectors if len(rows) == len(vectors) else vectors[rows]
    neighbours = np.einsum("ij,ij->i", different[1:], different[:-1])
    starts = np.concatenate(([0], np.flatnonzero(neighbours < _CUT_COSINE) + 1))
    starts = _divide(starts, len(different))
    for _ in range(_HALVINGS):
        lengths = np.diff(np.append(starts, len(different)))
        uneven = (_worst_cosines(different, starts, lengths) < _LEAST_COSINE) & (lengths > 1)
        if not uneven.any():
            break
        starts = np.sort(np.concatenate((starts, (starts + (lengths + 1) // 2)[uneven])))
    lengths = np.diff(np.append(starts, len(different)))
    means = np.add.reduceat(different, starts, axis=0) / lengths[:, None]
    return Units(rows[starts].astype(np.int64), means.astype(np.float32, copy=False))


def _divide(starts: IntArray, count: int) -> IntArray:
    """Cut runs that are too long into equal parts."""
    lengths = np.diff(np.append(starts, count))
    parts = -(-lengths // MOST_FRAMES)
    run = np.repeat(np.arange(len(starts)), parts)
    part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    divided: IntArray = starts[run] + part * lengths[run] // parts[run]
    return divided


def _worst_cosines(vectors: Float32Array, starts: IntArray, lengths: IntArray) -> Float32Array:
    """The least cosine of a frame and the mean of its unit, for each unit."""
    means = np.add.reduceat(vectors, starts, axis=0)
    means /= np.maximum(np.linalg.norm(means, axis=1), 1e-9)[:, None]
    cosines = np.einsum("ij,ij->i", vectors, np.repeat(means, lengths, axis=0))
    worst: Float32Array = np.minimum.reduceat(cosines, starts)
    return worst
