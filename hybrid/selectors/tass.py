"""TASS: the best frames that are far from each other, with a distance that halves until there are enough.

Timestamp-aware similarity search of DATE (arXiv 2509.09263):

    pool = the min(#{s > mean(s)}, 4 K) best rows, best first;   |pool| <= K: all of it
    gap = 20 s;  repeat: take each row of the pool, best first, that is at least gap from all taken ones;
    gap = gap / 2;  until K are taken

Fewer than K come back where few frames exceed the mean. Ties go to the earlier frame.

The released code enters this branch only if it is given a pool size and then does not use it, and
stops with a TypeError if it is not; what its text intends is done here. Equal scores exceed no mean:
``faithful=True`` then returns nothing, the default falls back to uniform.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_scores, mean, ranked, require
from hybrid.selectors.selector import Selector
from hybrid.selectors.uniform import evenly
from hybrid.values import IntArray

__all__ = ["tass"]

POOL_PER_FRAME = 4


def tass(
    scores: npt.ArrayLike,
    seconds: npt.ArrayLike,
    frames: int,
    *,
    gap_seconds: float = 20.0,
    faithful: bool = False,
) -> IntArray:
    """Choose rows that score well and keep their distance.

    Args:
        scores: [N], more is better.
        seconds: [N], times of the candidates.
        frames: the budget, at least 1.
        gap_seconds: distance at the beginning, above 0 and finite (half of infinity is infinity).
        faithful: see above.

    Returns:
        int64 in the order of the choice; at most ``frames``.

    Raises:
        InputError: a distance that is not above 0 and finite, scores or times that are not finite, or not one time a
            score.
    """
    require(0 < gap_seconds < math.inf, "gap_seconds", gap_seconds, "above 0 and finite")
    values, times = as_scores(scores), np.asarray(seconds, dtype=np.float64)
    if times.shape != values.shape:
        raise InputError(f"{len(values)} scores need as many times, not {list(times.shape)}")
    if not np.isfinite(times).all():
        raise InputError("a time is not a finite number; nothing can keep a distance from it")
    above = int(np.count_nonzero(values > mean(values))) if len(values) else 0
    if above == 0:
        return evenly(0 if faithful else len(values), frames)
    pool = ranked(values)[: min(above, POOL_PER_FRAME * frames)]
    if len(pool) <= frames:
        return pool
    at = times[pool]
    # Distance of each row of the pool to the nearest chosen one; 0 for the chosen ones themselves.
    nearest = np.full(len(pool), np.inf)
    chosen: list[int] = []
    gap = gap_seconds
    # Two candidates may have one and the same time: no distance above 0 lets both in.
    reachable = min(frames, len(np.unique(at)))
    while len(chosen) < reachable:
        for i, row in enumerate(pool.tolist()):
            if nearest[i] >= gap and len(chosen) < reachable:
                chosen.append(row)
                nearest = np.minimum(nearest, np.abs(at - at[i]))
        gap /= 2
    return np.array(chosen, dtype=np.int64)


SELECTOR = Selector(
    tass,
    summary="the best scores at a distance from each other that shrinks as needed",
    source="DATE (arXiv 2509.09263)",
)
