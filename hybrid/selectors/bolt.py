"""BOLT: evenly spaced quantiles of the scores (inverse transform sampling without randomness).

BOLT (CVPR 2025, arXiv 2503.21483):

    s = (s - min) / (max - min),  s = s ** power unless power is -1
    c = cumsum(s / sum(s));   u = linspace(1/K, 1 - 1/K, K);   row_i = first row with c >= u_i

Published powers: 3 on Video-MME and MLVU, 2.5 on LongVideoBench.

``faithful=True`` returns what the released code does: always K rows, which repeat where the scores have
a sharp peak; u = 1 for K = 1, and twice 0.5 for K = 2; K times row 0 if all scores are equal. (Where rounding
takes the released code beyond the last row, the last row is given.) By default each row is taken once
and the rest of the budget goes to the best unused scores, ties to the earlier frame; equal scores weigh
equally; K of 1 or 2 takes u = (i + 0.5) / K.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, fill, min_max, require
from hybrid.selectors.selector import Selector
from hybrid.values import IntArray

__all__ = ["bolt"]


def bolt(scores: npt.ArrayLike, frames: int, *, power: float = 3.0, faithful: bool = False) -> IntArray:
    """Choose rows by inverse transform sampling.

    Args:
        scores: [N], more is better; moving or stretching them changes nothing.
        frames: the budget, at least 1.
        power: sharpens the scores, above 0; -1 leaves them as they are.
        faithful: see above.

    Returns:
        int64, not decreasing; by default increasing, ``min(N, frames)`` of them.

    Raises:
        InputError: a power that is not legal, or scores that are not finite.
    """
    require(power > 0 or power == -1, "power", power, "above 0, or -1 for none")
    values = min_max(as_scores(scores))
    flat = not values.any()
    if flat and faithful:
        return np.zeros(min(frames, frames * len(values)), dtype=np.int64)
    if not faithful and len(values) <= frames:
        return np.arange(len(values), dtype=np.int64)
    weights = np.ones(len(values)) if flat else values if power == -1 else values**power
    cumulated = np.cumsum(weights / weights.sum())
    even = np.linspace(1 / frames, 1 - 1 / frames, frames)
    quantiles = even if frames > 2 or faithful else (np.arange(frames) + 0.5) / frames
    rows = np.searchsorted(cumulated, quantiles, side="left").clip(max=len(values) - 1)
    return rows.astype(np.int64) if faithful else fill(rows, weights, frames)


SELECTOR = Selector(
    bolt, summary="even steps through the cumulated scores", source="BOLT (CVPR 2025, arXiv 2503.21483)"
)
