"""Q-Frame: draw frames without replacement in proportion to their softmax, and show the best in full size.

Q-Frame (ICCV 2025, arXiv 2506.22139):

    key_i = ln softmax(s / temperature)_i - ln(-ln(u_i + 1e-10) + 1e-10),   u_i uniform in 0..1
    ranked by key, largest first: the first `high` frames in full size, the next `mid` at a quarter of the
    pixels, the next `low` at a sixteenth;   high + mid / 4 + low / 16 = budget (published 4 / 8 / 32 for 8)

which draws without replacement from the softmax (Gumbel-top-k). Temperature 0.8 is for raw products of
Long-CLIP, which are not normalised; with cosines it is nearly a blind draw.

``faithful=True`` takes the scores as they are and gives the frames of all three sizes, K/2, K and 4 K of
them, more than the budget in number; :func:`q_frame_sizes` separates them. By default the scores are
first moved to mean 0 and stretched to a standard deviation of ``spread`` (3, about that of such raw
products), whatever their scale, and the best K by the same key are given. Their code sets no seed; here
the same seed gives the same frames. Ties go to the earlier frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.selectors.ranking import as_scores, ranked, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["q_frame", "q_frame_keys", "q_frame_sizes"]

SMALL = 1e-10


def q_frame(
    scores: npt.ArrayLike,
    frames: int,
    *,
    temperature: float = 0.8,
    spread: float = 3.0,
    seed: int = 0,
    faithful: bool = False,
) -> IntArray:
    """Draw rows in proportion to the softmax of their scores.

    Args:
        scores: [N], more is better.
        frames: the budget in frames of full size, at least 1.
        temperature: of the softmax, above 0.
        spread: standard deviation that the scores are given, above 0; not with ``faithful``.
        seed: of the draw.
        faithful: see above.

    Returns:
        int64, increasing; by default ``min(N, frames)`` of them.

    Raises:
        InputError: a temperature or spread that is not above 0, or scores that are not finite.
    """
    require(spread > 0, "spread", spread, "above 0")
    values = as_scores(scores)
    drawn = np.random.default_rng(seed).random(len(values))
    if faithful:
        keys = q_frame_keys(values, drawn, temperature=temperature)
        return np.sort(np.concatenate(q_frame_sizes(keys, high=frames // 2, mid=frames, low=4 * frames)))
    deviation = values.std() if len(values) else 0.0
    even = (values - values.mean()) * (spread / deviation) if deviation > 0 else np.zeros(len(values))
    return np.sort(ranked(q_frame_keys(even, drawn, temperature=temperature))[:frames])


def q_frame_keys(scores: npt.ArrayLike, drawn: npt.ArrayLike, *, temperature: float = 0.8) -> FloatArray:
    """The key that ranks the frames: float64 [N].

    Args:
        scores: [N].
        drawn: [N] numbers in 0..1.
        temperature: of the softmax, above 0.

    Raises:
        InputError: a temperature that is not above 0, or lengths that differ.
    """
    require(temperature > 0, "temperature", temperature, "above 0")
    values, uniform = as_scores(scores), as_scores(drawn)
    if values.shape != uniform.shape:
        raise InputError(f"{len(values)} scores need as many drawn numbers, not {len(uniform)}")
    if len(values) == 0:
        return values
    scaled = values / temperature
    highest = scaled.max()
    log_softmax = scaled - highest - np.log(np.exp(scaled - highest).sum())
    keys: FloatArray = log_softmax - np.log(-np.log(uniform + SMALL) + SMALL)
    return keys


def q_frame_sizes(keys: npt.ArrayLike, *, high: int, mid: int, low: int) -> tuple[IntArray, IntArray, IntArray]:
    """Rows in full size, at a quarter and at a sixteenth of the pixels, each increasing; fewer if the video ends.

    Args:
        keys: [N], see :func:`q_frame_keys`.
        high, mid, low: how many of each size, 0 or more.
    """
    order = ranked(as_scores(keys))
    ends = np.cumsum([high, mid, low])
    return np.sort(order[: ends[0]]), np.sort(order[ends[0] : ends[1]]), np.sort(order[ends[1] : ends[2]])


SELECTOR = Selector(
    q_frame,
    summary="a seeded draw in proportion to the softmax of the scores",
    source="Q-Frame (ICCV 2025, arXiv 2506.22139)",
)
