"""The clustered bootstrap: exact cases, known distributions, and what pairing and clustering are for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.metrics.bootstrap import bootstrap_difference, bootstrap_mean
from hybrid.errors import InputError


def test_the_mean_is_weighted() -> None:
    estimate = bootstrap_mean([1.0, 0.0, 0.5], ["a", "a", "b"], weights=[1, 2, 1], resamples=50)
    assert estimate.value == pytest.approx(1.5 / 4)
    assert (estimate.questions, estimate.videos) == (3, 2)


def test_questions_that_agree_leave_no_doubt() -> None:
    estimate = bootstrap_mean([0.25] * 6, list("aabbcc"), resamples=100)
    assert (estimate.low, estimate.value, estimate.high) == (0.25, 0.25, 0.25)


def test_two_videos_give_the_binomial_that_they_must() -> None:
    # Drawn twice from {0, 1}: a mean of 0 and of 1 each in a quarter of the draws, so both are in the interval.
    estimate = bootstrap_mean([0.0, 1.0], ["a", "b"], resamples=4000)
    assert (estimate.low, estimate.value, estimate.high) == (0.0, 0.5, 1.0)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=400)
    estimate = bootstrap_mean(values, range(400), resamples=8000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_questions_to_one_video_do_not_count_as_independent() -> None:
    rng = np.random.default_rng(4)
    values = np.repeat(rng.normal(size=50), 8)
    alone = bootstrap_mean(values, range(400), resamples=2000)
    clustered = bootstrap_mean(values, np.repeat(np.arange(50), 8).tolist(), resamples=2000)
    ratio = (clustered.high - clustered.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(8), rel=0.15)


def test_pairing_removes_what_the_methods_share() -> None:
    rng = np.random.default_rng(5)
    shared = 10 * rng.normal(size=200)
    better = shared + 0.1 + 0.05 * rng.normal(size=200)
    difference = bootstrap_difference(better, shared, range(200), resamples=2000)
    assert difference.low > 0
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.p_value == pytest.approx(1 / 2001)


def test_the_sign_flip_test_agrees_with_all_flips() -> None:
    first = np.array([0.9, 0.4, 0.8, 0.2, 0.7, 0.6, 0.3])
    second = np.array([0.1, 0.5, 0.2, 0.3, 0.1, 0.2, 0.2])
    flips = np.array(list(itertools.product([-1, 1], repeat=7)))
    exact = np.mean(np.abs(flips @ (first - second)) >= abs((first - second).sum()) - 1e-12)
    difference = bootstrap_difference(first, second, range(7), resamples=40_000)
    assert difference.p_value == pytest.approx(exact, abs=0.01)


def test_methods_that_do_not_differ_have_a_p_value_of_one() -> None:
    difference = bootstrap_difference([0.2, 0.8], [0.2, 0.8], ["a", "b"], resamples=200)
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_the_test_is_level_when_nothing_differs() -> None:
    rng = np.random.default_rng(6)
    p_values = []
    for trial in range(200):
        first, second = rng.integers(0, 2, size=(2, 60))
        p_values.append(bootstrap_difference(first, second, range(60), resamples=300, seed=trial).p_value)
    assert np.mean(np.array(p_values) <= 0.1) < 0.17


def test_the_seed_decides_everything() -> None:
    values = np.random.default_rng(0).normal(size=30)
    videos = [i // 3 for i in range(30)]
    assert bootstrap_mean(values, videos, seed=1) == bootstrap_mean(values, videos, seed=1)
    assert bootstrap_mean(values, videos, seed=1) != bootstrap_mean(values, videos, seed=2)


def test_order_of_questions_does_not_matter_to_the_value() -> None:
    one = bootstrap_mean([0.0, 1.0, 0.5], ["a", "b", "a"], resamples=10)
    other = bootstrap_mean([0.5, 0.0, 1.0], ["a", "a", "b"], resamples=10)
    assert one.value == other.value


@pytest.mark.parametrize(
    ("values", "videos", "weights", "says"),
    [
        ([], [], None, "one at least"),
        ([1.0], ["a", "b"], None, "as many videos"),
        ([1.0], ["a"], [0.0], "not above 0"),
        ([float("nan")], ["a"], None, "not finite"),
    ],
)
def test_what_has_no_mean_is_refused(
    values: list[float], videos: list[str], weights: list[float] | None, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        bootstrap_mean(values, videos, weights=weights)


def test_methods_must_answer_the_same_questions() -> None:
    with pytest.raises(InputError, match="same questions"):
        bootstrap_difference([1.0, 0.0], [1.0], ["a", "b"])
