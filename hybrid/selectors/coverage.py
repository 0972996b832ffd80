"""Coverage: frames that cover whatever is relevant, each stretch once before any stretch twice.

A rule of this project, over the similarities s of all frames (CLIP's, or those of a scorer in its place) and the
scores g that GenS gives to some (0 where there is none). With times t and K frames:

    near(i, j) = max(0, 1 - |t_i - t_j| / reach) if g_i = g_j, else 0
    w_i  = exp((s_i - max s) / (sharpness std s)) + trust (g_i / 5)^2        relevance of a frame
    v_i  = w_i^2 / sum over k of w_k near(i, k)                              its share of its stretch's
    F(S) = sum over i of v_i max over j in S of near(i, j)                   relevant stretches with a chosen frame
         + floor A(S) / m                                                    the whole video, a little

A(S) is the integral over the video of max over j in S of max(0, 1 - |t - t_j| / m), with m = duration / K: a frame in
the middle of an empty stretch counts like ``floor`` times one in a stretch of full relevance. By v a stretch counts by
how relevant it is and not by how long it lasts. Where GenS changes its score another stretch begins: of "what comes
right after the door opens", the opening and what comes after it need a frame each. F is submodular (a facility
location); frames are added one by one where F gains most, which gives at least 1 - 1/e of the largest possible F
(Nemhauser, Wolsey and Fisher 1978).

The motive: top-k, and AKS where it does not split, put their frames around the one or two best moments, so that a
question that needs several is answered from some of them. On LongVideoBench, the published uniform-64 shows all of
three or more moments for 15.6 % of the questions and AKS-64 for 11.2 %; the 95 % interval of the difference is -12.9
to 4.1 points, so that this is a reason to look and no proof. Here the first frame of a stretch takes most of what the
stretch has to give, so that the next one goes elsewhere. Where nothing stands out all stretches are alike, the last
term decides, and the choice is nearly uniform.

What was found on the world's test videos (bench/results, ``coverage.json``): of questions with three or more moments
it shows all about as often as TASS does over CLIP's similarities alone (84.9 % against 78.1 at K = 8, p = .046 in one
of many comparisons; equal at K = 16; 95.8 against 92.4 at K = 32, p = .37), while it finds single moments about as
often as the best rules over GenS's scores. Without GenS's scores it is not better than TASS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hybrid.selectors.ranking import as_scores, require
from hybrid.selectors.selector import Selector
from hybrid.values import FloatArray, IntArray

__all__ = ["coverage", "relevance"]

BEST_GENS = 5.0
_ROWS_AT_ONCE = 64
"""So that the table of rows and their neighbours stays small."""


def coverage(
    seconds: FloatArray,
    scores: npt.ArrayLike,
    frames: int,
    *,
    similarities: npt.ArrayLike | None = None,
    gens_scores: npt.ArrayLike | None = None,
    reach: float = 6.0,
    sharpness: float = 1.0,
    trust: float = 1.0,
    floor: float = 0.1,
) -> IntArray:
    """Choose ``min(N, frames)`` rows that cover the relevant parts of the video.

    Args:
        seconds: [N], not decreasing.
        scores: [N], more is better, on any scale; taken for the similarities if neither of the next two is there.
        frames: the budget, at least 1.
        similarities: [N], on any scale.
        gens_scores: [N], 0 to 5.
        reach: seconds around a chosen frame that it covers, above 0.
        sharpness: how far below the best a similarity may lie and still count, in standard deviations, above 0.
        trust: weight of GenS against the similarities, 0 or more.
        floor: weight of an even spread over the video, 0 or more.

    Returns:
        int64, increasing. Ties go to the earlier frame.

    Raises:
        InputError: an option out of its range, or scores that are not finite.
    """
    require(reach > 0, "reach", reach, "above 0")
    require(sharpness > 0, "sharpness", sharpness, "above 0")
    require(trust >= 0, "trust", trust, "0 or more")
    require(floor >= 0, "floor", floor, "0 or more")
    times = np.asarray(seconds, dtype=np.float64)
    if similarities is None and gens_scores is None:
        similarities = scores
    if len(times) <= frames:
        return np.arange(len(times), dtype=np.int64)
    weights = relevance(len(times), similarities, gens_scores, sharpness=sharpness, trust=trust)
    given = np.zeros(len(times)) if gens_scores is None else as_scores(gens_scores)
    return np.sort(_greedy(_Frames(times, given, reach), weights, frames, floor=floor))


def relevance(
    count: int,
    similarities: npt.ArrayLike | None,
    gens_scores: npt.ArrayLike | None,
    *,
    sharpness: float,
    trust: float,
) -> FloatArray:
    """w of the module's text: float64 [count]; similarities that are all the same count 0."""
    weights = np.zeros(count)
    if similarities is not None:
        values = as_scores(similarities)
        spread = float(values.std())
        # Equal values have a spread of a few last bits, which must not be stretched to a ranking.
        if spread > 1e-9 * float(np.abs(values).max()):
            weights += np.exp((values - values.max()) / (sharpness * spread))
    if gens_scores is not None:
        weights += trust * (np.maximum(as_scores(gens_scores), 0.0) / BEST_GENS) ** 2
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """What decides which frames are near each other: their times, GenS's scores, and the reach in seconds."""

    times: FloatArray
    given: FloatArray
    reach: float

    def within(self, row: int, seconds: float) -> slice:
        """The rows at most so many seconds away, whatever their scores."""
        first = int(np.searchsorted(self.times, self.times[row] - seconds, side="left"))
        return slice(first, int(np.searchsorted(self.times, self.times[row] + seconds, side="right")))

    def near(self, rows: IntArray, others: slice) -> FloatArray:
        """near of the module's text: float64 [rows, others], not above 0 where they are not near."""
        apart = np.abs(self.times[rows][:, None] - self.times[others])
        nearness: FloatArray = (1.0 - apart / self.reach) * (self.given[rows][:, None] == self.given[others])
        return nearness


def _greedy(frames: _Frames, weights: FloatArray, budget: int, *, floor: float) -> IntArray:
    """Rows in the order in which they are chosen."""
    times, reach = frames.times, frames.reach
    covered = np.zeros(len(times))
    every = np.arange(len(times))
    around = _gains(frames, weights, covered, every)
    shares = np.divide(weights * weights, around, out=np.zeros(len(times)), where=around > 0)
    gains = _gains(frames, shares, covered, every)
    spacing = max(float(times[-1] - times[0]), 1e-9) / budget
    even = _EvenSpread(times, spacing, scale=floor / spacing)
    chosen: list[int] = []
    free = np.ones(len(times), dtype=bool)
    for _ in range(budget):
        row = int(np.argmax(np.where(free, gains + even.gains, -np.inf)))
        chosen.append(row)
        free[row] = False
        even.add(row)
        around_row = frames.within(row, reach)
        covered[around_row] = np.maximum(covered[around_row], frames.near(every[row : row + 1], around_row)[0])
        # Only of frames that are at most twice the reach away does the gain change.
        rows = every[frames.within(row, 2 * reach)]
        gains[rows] = _gains(frames, shares, covered, rows)
    return np.array(chosen, dtype=np.int64)


def _gains(frames: _Frames, weights: FloatArray, covered: FloatArray, rows: IntArray) -> FloatArray:
    """What each of consecutive rows would add to a sum of weights by nearness: float64 [rows].

    Args:
        frames: all of them.
        weights, covered: of all frames; ``covered`` is the nearness of each to a chosen one.
        rows: int64, consecutive.
    """
    found = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        first = frames.within(int(part[0]), frames.reach).start
        others = slice(first, frames.within(int(part[-1]), frames.reach).stop)
        more = np.maximum(frames.near(part, others) - covered[others], 0.0)
        found[start : start + len(part)] = more @ weights[others]
    return found


class _EvenSpread:
    """The last term of F: what each row would add to it, updated with every choice.

    Between two chosen frames that are d apart, A grows by d - d^2 / 4m (m from d = 2m on); before the first and
    after the last by e - e^2 / 2m (m / 2 from e = m on).
    """

    def __init__(self, times: FloatArray, spacing: float, *, scale: float) -> None:
        self._times, self._spacing, self._scale = times, spacing, scale
        self._chosen: list[int] = []
        self.gains = scale * (self._end(times - times[0]) + self._end(times[-1] - times))

    def add(self, row: int) -> None:
        """A row was chosen: those between its neighbours gain less now."""
        self._update(max((other for other in self._chosen if other < row), default=None), row)
        self._update(row, min((other for other in self._chosen if other > row), default=None))
        self._chosen.append(row)

    def _update(self, left: int | None, right: int | None) -> None:
        """Rows between two chosen ones, or between one and the end of the video."""
        times = self._times
        inner = slice(0 if left is None else left, len(times) if right is None else right + 1)
        at = times[inner]
        before = self._end(at - times[0]) if left is None else self._between(at - times[left])
        after = self._end(times[-1] - at) if right is None else self._between(times[right] - at)
        if left is not None and right is not None:
            whole = self._between(times[right] - times[left])
        else:
            edge = times[-1] - times[left] if left is not None else times[right or 0] - times[0]
            whole = self._end(edge)
        self.gains[inner] = self._scale * (before + after - whole)

    def _between(self, distance: FloatArray | float) -> FloatArray:
        d = np.minimum(distance, 2 * self._spacing)
        return np.asarray(d - d * d / (4 * self._spacing))

    def _end(self, distance: FloatArray | float) -> FloatArray:
        e = np.minimum(distance, self._spacing)
        return np.asarray(e - e * e / (2 * self._spacing))


SELECTOR = Selector(
    coverage,
    summary="covers every relevant stretch once before any of them twice, by similarities and GenS together",
    source="this project",
)
