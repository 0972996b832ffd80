"""Shared steps of the rules: the best rows, min-max scaling, filling a budget, and checks of arguments.

Ties always go to the earlier row, as in numpy's stable sort and ``heapq.nlargest``. ``torch.topk`` leaves ties open, so
that code published with it may differ there.
"""

from __future__ import annotations

from itertools import pairwise
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.values import FloatArray, IntArray

__all__ = [
    "as_scores",
    "as_vectors",
    "best_of_parts",
    "best_rows",
    "check_budget",
    "fill",
    "first_equal_rows",
    "mean",
    "min_max",
    "ranked",
    "require",
]

LARGEST = 1e100
"""The largest absolute value of a score: sums and squares of such numbers are still finite."""


def as_scores(scores: npt.ArrayLike) -> FloatArray:
    """Scores as float64 [N].

    Raises:
        InputError: not one list, a score that is not finite, or one beyond :data:`LARGEST`.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"scores have the shape {list(array.shape)}; there must be one number a candidate, [N]")
    if not np.isfinite(array).all():
        raise InputError("a score is not a finite number; leave such a candidate out or give it the lowest score")
    if len(array) and np.abs(array).max() > LARGEST:
        raise InputError(f"a score is {array[np.abs(array).argmax()]:g}; scores must lie within {LARGEST:g} of 0")
    return array


def as_vectors(embeddings: npt.ArrayLike, *, count: int | None = None) -> npt.NDArray[Any]:
    """Embeddings as an array [N, D] of their own dtype.

    Args:
        embeddings: one vector a candidate.
        count: N, where it is known.

    Raises:
        InputError: another shape, or a number that is not finite.
    """
    vectors = np.asarray(embeddings)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or (count is not None and len(vectors) != count):
        legal = "[N, D], D at least 1" if count is None else f"[{count}, D], one vector a score"
        raise InputError(f"embeddings have the shape {list(vectors.shape)}; they must be {legal}")
    if not np.isfinite(vectors).all():
        raise InputError("embeddings hold a number that is not finite; leave such a candidate out")
    return vectors


def best_of_parts(values: FloatArray, ends: IntArray) -> IntArray:
    """The best row of each part: int64, increasing.

    Args:
        values: [N].
        ends: [parts + 1], increasing: part ``i`` is rows ``ends[i]`` to ``ends[i + 1] - 1``.
    """
    rows = [low + int(np.argmax(values[low:high])) for low, high in pairwise(ends.tolist())]
    return np.array(rows, dtype=np.int64)


def check_budget(frames: SupportsIndex) -> int:
    """The budget as a plain int (numpy's whole numbers lack some of its methods, and overflow).

    Raises:
        InputError: ``frames`` is below 1, or no whole number.
    """
    if isinstance(frames, bool | np.bool_) or not hasattr(frames, "__index__"):
        raise InputError(f"frames is {frames!r}; it must be a whole number, at least 1")
    budget = index(frames)
    if budget < 1:
        raise InputError(f"frames is {budget}; it must be at least 1")
    return budget


def require(holds: bool, option: str, value: float, legal: str) -> None:
    """Refuse an option of a rule unless a condition holds.

    Raises:
        InputError: it does not; ``legal`` completes "it must be".
    """
    if not holds:
        raise InputError(f"{option} is {value}; it must be {legal}")


def first_equal_rows(vectors: npt.NDArray[Any]) -> IntArray:
    """The first row that is equal to each row: int64 [N].

    A matrix product of equal rows may differ in the last bit, because the order of its sums depends on a row's address.
    ``product[first_equal_rows(vectors)]`` makes copies of a frame tie.

    Args:
        vectors: [N, D].
    """
    first = np.arange(len(vectors), dtype=np.int64)
    # Few rows share even their first number; only these are compared.
    _, number, shared_by = np.unique(vectors[:, 0], return_inverse=True, return_counts=True)
    rows: dict[bytes, int] = {}
    for row in np.flatnonzero(shared_by[number] > 1).tolist():
        # Adding 0 turns -0.0 into 0.0, which is equal to it and has other bytes.
        first[row] = rows.setdefault((vectors[row] + 0).tobytes(), row)
    return first


def mean(values: FloatArray) -> float:
    """The mean of at least one value; of equal values exactly their value, which a plain sum misses by rounding."""
    least = values.min()
    return float(least + (values - least).mean())


def ranked(scores: npt.NDArray[Any]) -> IntArray:
    """All rows, best first, ties to the earlier: int64 [N]."""
    return np.argsort(-scores, kind="stable").astype(np.int64)


def best_rows(scores: npt.NDArray[Any], frames: int) -> IntArray:
    """The best ``frames`` rows: int64, increasing."""
    return np.sort(ranked(scores)[:frames])


def min_max(scores: FloatArray) -> FloatArray:
    """Scores moved and stretched to 0..1; all 0 if they are all the same (no scores: none)."""
    if len(scores) == 0:
        return scores
    low, high = scores.min(), scores.max()
    scaled: FloatArray = (scores - low) / (high - low) if high > low else np.zeros(len(scores))
    return scaled


def fill(rows: npt.NDArray[Any], scores: npt.NDArray[Any], frames: int) -> IntArray:
    """Each of ``rows`` once, and the best unused rows until there are ``frames`` (or no more): int64, increasing."""
    chosen = np.unique(rows).astype(np.int64)
    missing = frames - len(chosen)
    if missing <= 0:
        return chosen
    order = ranked(scores)
    unused = order[~np.isin(order, chosen)]
    return np.sort(np.concatenate([chosen, unused[:missing]]))
