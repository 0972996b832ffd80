"""FOCUS: score a few frames of every stretch, zoom into the promising ones, and draw frames there.

FOCUS (ICLR 2026, arXiv 2510.27280) treats stretches of the video as the arms of a bandit, so that about one
frame in fifty is scored. T frames at f per second last D = T / f seconds; K is the budget:

    A = max(8, ceil(D / 16));  stride = max(1, floor(T / A));  T // stride arms of equal size
    coarse: of each arm the middle frame and 2 others, drawn
    bound(arm) = mean + sqrt(2 ln N max(var, 1e-6) / n) + 3 ln N / n      N, n: frames scored in all, in the arm
    zoom into the best max(4, ceil(arms / 4)): window = middle +- max(1, round(max(1 / f, D / A / 2) f)) frames,
        max(1, window // min(round(f), stride)) frames in it: half of them evenly spaced, the others drawn
    final: the best round(0.2 min(K, N)) scored frames; the other places go evenly to the best
        clamp(ceil(arms / 4), 4, 32) arms, what does not divide to the best ones first; in an arm every frame gets
        the score of the nearest scored one, clipped to 0..1, scaled to 0..1 (all alike: 1), and frames are drawn
        without replacement in proportion to exp(score / 0.06)
    frames nearer than  min(D / K / 4, 1 s)  (0 if D / K <= 0.2 s) to one chosen before the arm's draw are left out,
        unless that leaves none of the arm

``faithful=True`` follows the released code: the frames scored in the zoom count only for the best scored ones,
never for the means, bounds and nearest scores of their arms. By default they do count. The scorer there is
BLIP's matching probability; by default other scores are scaled to 0..1 by the least and the greatest seen.
Fewer than K may come back in both. The draws follow numpy's ``default_rng(seed)``; the authors seed with 42
and the number of the worker. Equal scores go in the order of scoring: coarse first, then the zoom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from hybrid.errors import InputError
from hybrid.selectors.candidates import ScoreFrames
from hybrid.selectors.ranking import min_max, ranked, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["Survey", "focus", "focus_survey"]

ARM_SECONDS = 16.0
LEAST_ARMS = 8
DRAWN_PER_ARM = 2
ZOOM_SHARE = 0.25
LEAST_ZOOMED = 4
MOST_FINAL_ARMS = 32
LEAST_VARIANCE = 1e-6
EVEN_SHARE = 0.5
BEST_SHARE = 0.2
TEMPERATURE = 0.06


@dataclass(slots=True, eq=False)
class Arm:
    """A stretch ``[start, end)`` of rows, with what was scored in it."""

    start: int
    end: int
    rows: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def middle(self) -> int:
        """Its middle row, the earlier of two."""
        return (self.start + self.end - 1) // 2


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What was scored, in this order.

    Attributes:
        rows: int64 [n].
        scores: float64 [n].
        arms: in time order, with the scored rows that count for them.
        bounds: float64 [arms], upper confidence bounds.
    """

    rows: IntArray
    scores: FloatArray
    arms: tuple[Arm, ...]
    bounds: FloatArray


def focus(
    seconds: FloatArray,
    score_frames: ScoreFrames,
    frames: int,
    *,
    gap_seconds: float | None = None,
    seed: int = 42,
    faithful: bool = False,
) -> IntArray:
    """Choose rows with scores on demand.

    Args:
        seconds: [N], times of the candidates; their mean distance is taken for all.
        score_frames: gives the scores of some rows; it is called twice.
        frames: the budget, at least 1.
        gap_seconds: least distance of chosen frames, 0 or more; by the rule above if None.
        seed: of the draws.
        faithful: see above.

    Returns:
        int64, increasing; at most ``frames``.

    Raises:
        InputError: a negative distance, or a scorer that does not give one finite score a row.
    """
    if gap_seconds is not None:
        require(gap_seconds >= 0, "gap_seconds", gap_seconds, "0 or more")
    count = len(seconds)
    if count == 0 or (count <= frames and not faithful):
        return np.arange(count, dtype=np.int64)
    rate = _rate(seconds)
    rng = np.random.default_rng(seed)
    survey = focus_survey(count, rate, score_frames, rng, faithful=faithful)
    apart = count / rate / frames
    gap = gap_seconds if gap_seconds is not None else 0.0 if apart <= 0.2 else min(0.25 * apart, 1.0)
    best = round(BEST_SHARE * min(frames, len(survey.rows)))
    chosen = list(dict.fromkeys(survey.rows[ranked(survey.scores)[:best]].tolist()))
    for arm, count in _shares(survey, frames - best):
        chosen += _draw(arm, count, chosen, round(gap * rate), rng)
    return np.unique(np.array(chosen, dtype=np.int64))[:frames]


def focus_survey(
    count: int, rate: float, score_frames: ScoreFrames, rng: np.random.Generator, *, faithful: bool = False
) -> Survey:
    """Score the middles and drawn frames of all arms, then zoom into the best.

    Args:
        count: T, how many frames there are.
        rate: frames per second.
        score_frames: gives the scores of some rows.
        rng: of the draws.
        faithful: see the module.

    Raises:
        InputError: a scorer that does not give one finite score a row.
    """
    parts = max(LEAST_ARMS, math.ceil(count / rate / ARM_SECONDS))
    stride = max(1, count // parts)
    arms = _arms(count, stride)
    coarse = [_coarse_rows(arm, rng) for arm in arms]
    scores = iter(_ask(score_frames, [row for rows in coarse for row in rows]).tolist())
    for arm, rows in zip(arms, coarse, strict=True):
        arm.rows, arm.scores = list(rows), [next(scores) for _ in rows]
    zoomed = ranked(_bounds(arms))[: max(LEAST_ZOOMED, math.ceil(ZOOM_SHARE * len(arms)))].tolist()
    half = max(1, round(max(1 / rate, count / rate / parts / 2) * rate))
    done = {row for rows in coarse for row in rows}
    fine: set[int] = set()
    for best in zoomed:
        fine |= _fine_rows(arms[best].middle, count, half, min(round(rate), stride), done | fine, rng)
    rows = [row for part in coarse for row in part] + sorted(fine)
    all_scores = np.concatenate([[s for arm in arms for s in arm.scores], _ask(score_frames, sorted(fine))])
    if not faithful:
        all_scores = min_max(all_scores)
        _assign(arms, rows, all_scores)
    return Survey(np.array(rows, dtype=np.int64), all_scores, tuple(arms), _bounds(arms))


def _rate(seconds: FloatArray) -> float:
    """Frames per second by the mean distance, snapped to the nearest rate that a video has.

    Times are rounded, so that 30 comes out as 29.999999999999996, and a stretch of 16 s as a little more: another
    number of arms. Rates are fractions with a denominator of at most 1001 (30000/1001).
    """
    length = float(seconds[-1] - seconds[0])
    if length <= 0:
        return 1.0
    rate = (len(seconds) - 1) / length
    return float(Fraction(rate).limit_denominator(1001)) or rate


def _arms(count: int, stride: int) -> list[Arm]:
    arms = count // stride
    size = count // arms
    return [Arm(i * size, (i + 1) * size) for i in range(arms)]


def _coarse_rows(arm: Arm, rng: np.random.Generator) -> list[int]:
    others = [row for row in range(arm.start, arm.end) if row != arm.middle]
    return [arm.middle, *_drawn(others, DRAWN_PER_ARM, rng)]


def _fine_rows(middle: int, count: int, half: int, step: int, done: set[int], rng: np.random.Generator) -> set[int]:
    """Rows of the window around an arm's middle that are not yet ``done``."""
    low, high = max(0, middle - half), min(count - 1, middle + half)
    size = high - low + 1
    need = max(1, size // max(1, step))
    even = round(EVEN_SHARE * need)
    if even < size:
        middles = [min(high, low + int(i * (size / even) + size / even / 2)) for i in range(even)]
    else:
        middles = [(low + high) // 2]
    rows = {row for row in middles if row not in done}
    free = [row for row in range(low, high + 1) if row not in done and row not in rows]
    return rows | set(_drawn(free, need - even, rng))


def _drawn(rows: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """At most ``count`` different ones of ``rows``; nothing is drawn if there are none."""
    if not rows or count < 1:
        return []
    drawn: list[int] = rng.choice(rows, size=min(count, len(rows)), replace=False).tolist()
    return drawn


def _ask(score_frames: ScoreFrames, rows: list[int]) -> FloatArray:
    if not rows:
        return np.zeros(0)
    scores = np.asarray(score_frames(np.array(rows, dtype=np.int64)), dtype=np.float64)
    if scores.shape != (len(rows),) or not np.isfinite(scores).all():
        raise InputError(f"the scorer was given {len(rows)} rows; it must return as many finite scores")
    return scores


def _bounds(arms: list[Arm]) -> FloatArray:
    total = sum(len(arm.rows) for arm in arms)
    bounds = []
    for arm in arms:
        scores, n = np.array(arm.scores), len(arm.scores)
        variance = max(float(scores.var()), LEAST_VARIANCE)
        bounds.append(scores.mean() + math.sqrt(2 * math.log(total) * variance / n) + 3 * math.log(total) / n)
    return np.array(bounds)


def _assign(arms: list[Arm], rows: list[int], scores: FloatArray) -> None:
    """Give every scored row to the arm in which it lies."""
    for arm in arms:
        arm.rows, arm.scores = [], []
    size = arms[0].end - arms[0].start
    for row, score in zip(rows, scores.tolist(), strict=True):
        arm = arms[min(row // size, len(arms) - 1)]
        arm.rows.append(row)
        arm.scores.append(score)


def _shares(survey: Survey, frames: int) -> list[tuple[Arm, int]]:
    """The best arms and how many frames each gives, best first."""
    count = len(survey.arms)
    final = min(count, max(LEAST_ZOOMED, min(MOST_FINAL_ARMS, math.ceil(ZOOM_SHARE * count))))
    each, more = divmod(frames, final)
    order = ranked(survey.bounds)[:final].tolist()
    return [(survey.arms[arm], each + (rank < more)) for rank, arm in enumerate(order)]


def _draw(arm: Arm, frames: int, chosen: list[int], gap_rows: int, rng: np.random.Generator) -> list[int]:
    """Rows of one arm, drawn in proportion to the sharpened nearest score."""
    rows = np.arange(arm.start, arm.end)
    scored = np.array(arm.rows)
    nearest = np.abs(rows[:, None] - scored[None, :]).argmin(axis=1)
    scores = np.clip(np.array(arm.scores)[nearest], 0.0, 1.0)
    distance = np.abs(rows[:, None] - np.array(chosen, dtype=np.int64)[None, :]).min(axis=1, initial=arm.end + gap_rows)
    far = distance >= max(1, gap_rows)
    # Where the whole arm is too near to chosen frames, the distance is given up, not the arm.
    open_rows = far if far.any() else distance > 0
    rows, scores = rows[open_rows], scores[open_rows]
    count = min(frames, len(rows))
    if count == 0:
        return []
    z = min_max(scores)
    weights = np.exp((z - z.max()) / TEMPERATURE)
    drawn = rng.choice(len(rows), size=count, p=weights / weights.sum(), replace=False)
    return [int(row) for row in rows[drawn]]


SELECTOR = Selector(
    focus,
    summary="scores a few frames of every stretch and zooms into the promising ones",
    source="FOCUS (ICLR 2026, arXiv 2510.27280)",
)
