"""The coverage rule: its formula by brute force, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.coverage import coverage
from hybrid.selectors.registry import select


def spread_area(times: np.ndarray, rows: list[int], m: float) -> float:
    """A of the rule: how much of the video the chosen rows reach, by the pieces of the integral."""
    chosen = np.sort(times[rows])
    between = np.minimum(np.diff(chosen), 2 * m)
    ends = np.minimum([chosen[0] - times[0], times[-1] - chosen[-1]], m)
    return float((between - between**2 / (4 * m)).sum() + (ends - ends**2 / (2 * m)).sum())


def test_the_area_is_the_integral() -> None:
    times = np.sort(np.random.default_rng(0).random(40)) * 100
    fine = np.linspace(times[0], times[-1], 20_001)
    for rows, m in (([3], 12.0), ([5, 6, 30], 5.0), ([0, 39], 60.0)):
        reached = np.maximum(0, 1 - np.abs(fine[:, None] - times[rows]) / m).max(axis=1)
        assert spread_area(times, rows, m) == pytest.approx(reached.mean() * (times[-1] - times[0]), rel=1e-3)


def by_the_formula(
    times: np.ndarray, similarities: np.ndarray, gens: np.ndarray, frames: int, *, reach: float, floor: float
) -> list[int]:
    """The greedy choice, with F computed anew for every set."""
    w = np.exp((similarities - similarities.max()) / similarities.std()) + (gens / 5) ** 2
    near = np.maximum(0, 1 - np.abs(times[:, None] - times) / reach) * (gens[:, None] == gens)
    v = w**2 / (near @ w)
    m = (times[-1] - times[0]) / frames

    def gain(rows: list[int]) -> float:
        return float(near[:, rows].max(axis=1) @ v + floor * spread_area(times, rows, m) / m)

    chosen: list[int] = []
    for _ in range(frames):
        chosen.append(max((row for row in range(len(times)) if row not in chosen), key=lambda r: gain([*chosen, r])))
    return sorted(chosen)


@pytest.mark.parametrize("first_seed", range(0, 500, 100))
def test_it_is_its_formula(first_seed: int) -> None:
    # So many, because a gain that is not brought up to date changes the choice in few of them.
    for seed in range(first_seed, first_seed + 100):
        rng = np.random.default_rng(seed)
        count, frames = int(rng.integers(12, 36)), int(rng.integers(2, 9))
        times = np.sort(rng.random(count)) * float(rng.choice([20, 60]))
        similarities = rng.random(count)
        gens = rng.integers(0, 6, 9).repeat(4)[:count].astype(float)  # runs of one score, as GenS gives them
        reach, floor = float(rng.choice([2.0, 5.0, 9.0])), float(rng.choice([0.0, 0.1, 0.5]))
        chosen = coverage(times, gens, frames, similarities=similarities, gens_scores=gens, reach=reach, floor=floor)
        assert chosen.tolist() == by_the_formula(times, similarities, gens, frames, reach=reach, floor=floor), seed


def test_each_moment_is_shown_before_any_is_shown_twice() -> None:
    seconds = np.arange(600.0)
    scores = np.zeros(600)
    moments = [(40, 52), (200, 204), (333, 341), (500, 503)]
    for place, (start, end) in enumerate(moments):
        scores[start:end] = 1.0 - 0.1 * place  # the long ones are the better ones
    for name, shown in (("coverage", 4), ("top_k", 1)):
        rows = select(name, Candidates(seconds=seconds, scores=scores), 8)
        assert sum(bool(((rows >= start) & (rows < end)).any()) for start, end in moments) == shown


def test_gens_and_similarity_both_count() -> None:
    seconds = np.arange(300.0)
    similarities, gens = np.zeros(300), np.zeros(300)
    similarities[50:54] = 1.0
    gens[200:204] = 5.0
    rows = coverage(seconds, gens, 4, similarities=similarities, gens_scores=gens)
    assert ((rows >= 50) & (rows < 54)).any()
    assert ((rows >= 200) & (rows < 204)).any()
    sceptic = coverage(seconds, gens, 1, similarities=similarities, gens_scores=gens, trust=0.0)
    assert 50 <= sceptic[0] < 54
    believer = coverage(seconds, gens, 1, similarities=similarities, gens_scores=gens, trust=9.0)
    assert 200 <= believer[0] < 204


def test_neighbours_with_other_scores_of_gens_get_a_frame_each() -> None:
    seconds = np.arange(300.0)
    gens = np.zeros(300)
    gens[100:104], gens[104:107] = 4.0, 5.0  # what the question starts from, and its answer
    rows = coverage(seconds, gens, 2, gens_scores=gens)
    assert 100 <= rows[0] < 104 <= rows[1] < 107


@given(value=st.floats(-1, 1), count=st.integers(1, 400), frames=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_where_nothing_stands_out_it_is_nearly_uniform(value: float, count: int, frames: int) -> None:
    rows = coverage(np.arange(float(count)), np.full(count, value), frames)
    assert len(rows) == min(count, frames)
    if count > 2 * frames and frames > 2:
        # No gap is more than twice an even one, neither between two frames nor at an end.
        gaps = np.diff(np.concatenate([[-rows[0] - 1], rows, [2 * count - rows[-1]]]))
        assert gaps.max() <= 2 * count / frames + 2


@pytest.mark.parametrize("step", [0.04, 0.5, 10.0, 60.0])
def test_any_rate_will_do(step: float) -> None:
    rng = np.random.default_rng(0)
    rows = coverage(step * np.arange(500), rng.random(500), 16)
    assert len(np.unique(rows)) == 16


def test_frames_at_one_time_and_times_that_jump() -> None:
    times = np.array([0.0, 0.0, 0.0, 1.0, 500.0, 500.0, 501.0, 9000.0])
    scores = np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert coverage(times, scores, 2).tolist() == [0, 4]
    assert coverage(np.zeros(9), np.arange(9.0), 3).shape == (3,)


@pytest.mark.parametrize("option", [{"reach": 0.0}, {"sharpness": -1.0}, {"trust": -0.1}, {"floor": float("nan")}])
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(option))} is .*; it must be (above 0|0 or more)"):
        coverage(np.arange(9.0), np.arange(9.0), 2, **option)
