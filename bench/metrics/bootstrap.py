"""How certain a mean over questions is, and whether two methods differ: clustered by video.

Questions to one video share its scenes, so they are not independent, and resampling questions would
give intervals that are too narrow. Videos are resampled instead, each with all its questions
(cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).

* Interval: percentiles of  sum(w v) / sum(w)  over resampled videos. The weight of a question is 1
  for a mean over questions (macro), its number of moments for a share of moments (micro).
* Difference of two methods on the same questions: the same resampled videos for both, so that what
  makes a video easy for both cancels.
* Test: if the methods do not differ, exchanging them within a video changes nothing. So the sign of
  each video's summed difference is drawn at random, and the p value is the share of draws, the
  observed one included, that lie as far from zero as the observed sum (two-sided).

Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.errors import InputError
from hybrid.values import FloatArray, IntArray

__all__ = ["Difference", "Estimate", "bootstrap_difference", "bootstrap_mean", "check_resamples"]

RESAMPLES = 10_000
LEVEL = 0.95
BATCH = 1_000
"""How many draws are held at once: 1,000 draws of 1,000 videos are 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: of all questions.
        low, high: ends of the percentile interval.
        level: of the interval.
        questions, videos: how many there were.
    """

    value: float
    low: float
    high: float
    level: float
    questions: int
    videos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Estimate):
    """First minus second method, on the same questions.

    Attributes:
        p_value: two-sided, of the paired sign-flip test over videos; never 0.
    """

    p_value: float


def bootstrap_mean(
    values: npt.ArrayLike,
    videos: Sequence[Hashable],
    *,
    weights: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """The weighted mean over questions with an interval that resamples videos.

    Args:
        values: [Q], one finite number a question.
        videos: [Q], which video each question is about.
        weights: [Q], positive; default: all 1.
        resamples: how many times the videos are drawn.
        level: of the interval, between 0 and 1.
        seed: of the draws.

    Raises:
        InputError: no question, lengths that differ, a value that is not finite, a weight that is not positive.
    """
    return Estimate(**_interval(*_by_video(values, videos, weights), len(videos), resamples, level, seed))


def bootstrap_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    videos: Sequence[Hashable],
    *,
    weights: npt.ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """How much better the first method is than the second, with an interval and a test, paired by question.

    Args:
        first, second: [Q] values of the two methods for the same questions in the same order.
        videos, weights, resamples, level, seed: as for :func:`bootstrap_mean`.

    Raises:
        InputError: as for :func:`bootstrap_mean`.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InputError(f"the two methods have {a.shape} and {b.shape} values; they must answer the same questions")
    sums, totals = _by_video(a - b, videos, weights)
    return Difference(
        **_interval(sums, totals, len(videos), resamples, level, seed), p_value=_sign_flip_p(sums, resamples, seed)
    )


def check_resamples(resamples: int) -> None:
    """Refuse a number of draws that gives no interval, before any work is done for it.

    Raises:
        InputError: it is below 1.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; it must be at least 1")


def _by_video(
    values: npt.ArrayLike, videos: Sequence[Hashable], weights: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Per video, in order of first appearance: the weighted sum of its values, and the sum of its weights."""
    v = np.asarray(values, dtype=np.float64)
    w = np.ones(v.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if v.ndim != 1 or len(v) == 0:
        raise InputError(
            f"values have the shape {list(v.shape)}; there must be one number a question, and one at least"
        )
    if w.shape != v.shape or len(videos) != len(v):
        raise InputError(f"{len(v)} values need as many videos and weights, not {len(videos)} and {w.size}")
    if not np.isfinite(v).all():
        raise InputError("a value is not finite; leave out the questions that have none")
    if not (w > 0).all():
        raise InputError("a weight is not above 0; leave out the questions that do not count")
    numbers: dict[Hashable, int] = {}
    video_of = np.array([numbers.setdefault(video, len(numbers)) for video in videos], dtype=np.int64)
    sums, totals = np.zeros(len(numbers)), np.zeros(len(numbers))
    np.add.at(sums, video_of, w * v)
    np.add.at(totals, video_of, w)
    return sums, totals


def _video_counts(videos: int, resamples: int, seed: int) -> Iterator[IntArray]:
    """How often each video is drawn, in batches of draws: int64 [B, V]."""
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, BATCH):
        yield rng.multinomial(videos, np.full(videos, 1 / videos), size=min(BATCH, resamples - start))


def _interval(
    sums: FloatArray, totals: FloatArray, questions: int, resamples: int, level: float, seed: int
) -> dict[str, Any]:
    """The fields of an estimate."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must lie between 0 and 1")
    draws = np.concatenate([(c @ sums) / (c @ totals) for c in _video_counts(len(sums), resamples, seed)])
    low, high = map(float, np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]))
    value = float(sums.sum() / totals.sum())
    return {"value": value, "low": low, "high": high, "level": level, "questions": questions, "videos": len(sums)}


def _sign_flip_p(sums: FloatArray, resamples: int, seed: int) -> float:
    observed = abs(float(sums.sum()))
    # Sums of the same numbers in another order differ in the last bits; those are ties, not victories.
    slack = 1e-9 * float(np.abs(sums).sum())
    rng = np.random.default_rng(seed)
    as_far = 1
    for start in range(0, resamples, BATCH):
        signs = 2 * rng.integers(0, 2, size=(min(BATCH, resamples - start), len(sums))) - 1
        as_far += int((np.abs(signs @ sums) >= observed - slack).sum())
    return as_far / (resamples + 1)
