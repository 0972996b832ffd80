"""Moment recall, all-hit and precision: by hand, against a plain loop, and as properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.all_hit import all_hit
from bench.metrics.moment_recall import moment_recall
from bench.metrics.nearest import evidence_distances, selection_distances
from bench.metrics.precision import precision
from hybrid.errors import InputError

# Quarters are exact in binary, so that a distance equal to the tolerance is exactly equal.
times = st.integers(0, 400).map(lambda quarter: quarter / 4)
selections = st.lists(times, max_size=12)
moments = st.lists(times, min_size=1, max_size=6)
spans = st.lists(st.tuples(times, st.integers(0, 40)).map(lambda s: (s[0], s[0] + s[1] / 4)), min_size=1, max_size=6)
tolerances = st.integers(0, 40).map(lambda quarter: quarter / 4)


def loop_distance(seconds: float, span: tuple[float, float]) -> float:
    if span[0] <= seconds <= span[1]:
        return 0.0
    return min(abs(seconds - span[0]), abs(seconds - span[1]))


@given(selections, spans, tolerances)
@settings(deadline=None)
def test_they_are_what_a_plain_loop_counts(
    selected: list[float], evidence: list[tuple[float, float]], tau: float
) -> None:
    hits = [any(loop_distance(s, span) <= tau for s in selected) for span in evidence]
    useful = [any(loop_distance(s, span) <= tau for span in evidence) for s in selected]
    assert moment_recall(selected, evidence, within_seconds=tau) == pytest.approx(sum(hits) / len(hits))
    assert all_hit(selected, evidence, within_seconds=tau) == all(hits)
    expected = sum(useful) / len(useful) if useful else 0.0
    assert precision(selected, evidence, within_seconds=tau) == pytest.approx(expected)


@given(selections, moments, tolerances)
@settings(deadline=None)
def test_a_moment_is_a_span_of_no_length(selected: list[float], evidence: list[float], tau: float) -> None:
    as_spans = [(moment, moment) for moment in evidence]
    for measure in (moment_recall, all_hit, precision):
        assert measure(selected, evidence, within_seconds=tau) == measure(selected, as_spans, within_seconds=tau)


@given(selections, times, moments, tolerances)
@settings(deadline=None)
def test_another_frame_never_lowers_recall(
    selected: list[float], more: float, evidence: list[float], tau: float
) -> None:
    before = moment_recall(selected, evidence, within_seconds=tau)
    assert moment_recall([*selected, more], evidence, within_seconds=tau) >= before


def test_the_tolerance_is_inclusive() -> None:
    assert moment_recall([10.0], [12.0, 7.0], within_seconds=2) == 0.5
    assert moment_recall([10.0], [12.0, 7.0], within_seconds=1.99) == 0
    assert moment_recall([10.0], [(12.0, 30.0)], within_seconds=2) == 1
    assert moment_recall([21.0], [(12.0, 30.0)], within_seconds=0) == 1


def test_distances_reach_both_ways() -> None:
    assert evidence_distances([1.0, 9.0], [(2.0, 4.0), (8.0, 20.0)]).tolist() == [1.0, 0.0]
    assert selection_distances([1.0, 9.0, 25.0], [(2.0, 4.0), (8.0, 20.0)]).tolist() == [1.0, 0.0, 5.0]


def test_nothing_selected_is_infinitely_far_and_hits_nothing() -> None:
    assert math.isinf(evidence_distances([], [3.0])[0])
    assert moment_recall([], [3.0], within_seconds=1e9) == 0
    assert precision([], [3.0], within_seconds=5) == 0


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(InputError, match="no evidence"):
        moment_recall([1.0], [], within_seconds=1)
    with pytest.raises(InputError, match="0 or more"):
        moment_recall([1.0], [1.0], within_seconds=-1)
    with pytest.raises(InputError, match="ends before"):
        moment_recall([1.0], [(3.0, 2.0)], within_seconds=1)
    with pytest.raises(InputError, match="shape"):
        precision([1.0], np.zeros((2, 3)), within_seconds=1)
    with pytest.raises(InputError, match="finite"):
        precision([math.nan], [1.0], within_seconds=1)
