"""Which time stamps are believed, and what becomes of clocks that start over."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid.frames.packets.plan import NO_PTS
from hybrid.frames.packets.timeline import clock_jumps, outliers, put_behind, usual_step
from hybrid.values import IntArray

ALL = np.ones


def test_the_usual_step_is_the_median_distance() -> None:
    assert usual_step(np.array([80, 0, 40, 120, 9000])) == 40
    assert usual_step(np.array([7, 7])) == 1
    assert usual_step(np.array([], dtype=np.int64)) == 1


def test_a_few_wild_time_stamps_are_left_out() -> None:
    seconds = np.array([0, 0.04, 0.08, 1e9, 0, -1e6])
    known = np.array([True, True, True, True, False, True])
    wild, believed = outliers(seconds, known, 10.0)
    assert wild.tolist() == [False, False, False, True, False, True]
    assert believed
    wild, believed = outliers(seconds, known, None)
    assert wild.tolist() == [False, False, False, False, False, True]
    assert believed


def test_a_stated_length_that_most_packets_contradict_is_not_believed() -> None:
    seconds = np.arange(5000) / 25
    wild, believed = outliers(seconds, ALL(5000, bool), 10.0)
    assert not wild.any()
    assert not believed


def test_packets_that_follow_the_others_closely_are_not_wild() -> None:
    seconds = np.arange(1755) / 25  # Only the last few are later than the stated length and a minute.
    wild, believed = outliers(seconds, ALL(1755, bool), 10.15)
    assert int((seconds > 70.15).sum()) == 1
    assert not wild.any()
    assert not believed


def test_one_wild_packet_in_a_hundred_is_many_enough() -> None:
    seconds = np.arange(2000) / 25
    seconds[100:2000:100] += 1e6  # 19 of 2000
    wild, believed = outliers(seconds, ALL(2000, bool), 80.0)
    assert np.flatnonzero(wild).tolist() == list(range(100, 2000, 100))
    assert believed
    seconds[50:2000:100] += 1e6
    wild, believed = outliers(seconds, ALL(2000, bool), 80.0)
    assert not wild.any()
    assert not believed


def test_a_clock_that_goes_on_has_no_jumps() -> None:
    dts = np.arange(0, 9000 * 3000, 3000)
    dts[5000:] += 10**9
    found = clock_jumps(dts, ALL(9000, bool), 90_000)
    assert found.starts == ()
    assert not found.wild.any()


def test_a_counter_that_seems_to_have_run_over() -> None:
    dts = np.arange(0, 300 * 3000, 3000)
    dts[200:] += 2**33 - 10**7
    dts[50] += 2**33
    found = clock_jumps(dts, ALL(300, bool), 90_000, longest_gap=2**32)
    assert np.flatnonzero(found.wild).tolist() == [50]
    moved = put_behind(dts, ~found.wild, found.starts)[~found.wild]
    assert set(np.diff(moved).tolist()) <= {3000, 6000}
    assert clock_jumps(dts, np.arange(300) != 50, 90_000).starts == ()


def test_a_packet_apart_from_the_clock_is_no_jump() -> None:
    dts = np.arange(0, 9000 * 3000, 3000)
    dts[4000] += 20 * 90_000
    dts[6000:6003] -= 20 * 90_000
    dts[7000] = NO_PTS
    found = clock_jumps(dts, ALL(9000, bool), 90_000)
    assert found.starts == ()
    assert np.flatnonzero(found.wild).tolist() == [4000, 6000, 6001, 6002]


@given(
    parts=st.lists(
        st.tuples(st.integers(20, 6000), st.integers(0, 50_000)),
        min_size=1,
        max_size=5,
    ),
    step=st.integers(1, 100),
)
def test_parts_are_put_one_behind_the_other(parts: list[tuple[int, int]], step: int) -> None:
    begins = [0]
    raw: list[IntArray] = []
    for length, first in parts:
        # Each part begins well before the end of the one before it.
        start = min(first, raw[-1][-1] - 20 * step) if raw else first
        raw.append(start + step * np.arange(length))
        begins.append(begins[-1] + length)
    dts = np.concatenate(raw)
    usable = ALL(len(dts), bool)
    found = clock_jumps(dts, usable, 1000)
    assert list(found.starts) == begins[1:-1]
    assert not found.wild.any()
    moved = put_behind(dts, usable, found.starts)
    assert set(np.diff(moved).tolist()) <= {step}
    assert moved[0] == dts[0]


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=300))
def test_any_clock_is_followed_to_its_end(times: list[int]) -> None:
    dts = np.array(times)
    found = clock_jumps(dts, ALL(len(dts), bool), 1000)
    assert list(found.starts) == sorted({start for start in found.starts if 0 < start < len(dts)})
    usable = ~found.wild
    moved = put_behind(dts, usable, found.starts)
    bounds = [0, *found.starts, len(dts)]
    highest = [
        (int(moved[a:b][usable[a:b]].min()), int(moved[a:b][usable[a:b]].max()))
        for a, b in itertools.pairwise(bounds)
        if usable[a:b].any()
    ]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(highest))


def test_packets_without_a_time_keep_none() -> None:
    times = np.array([0, 40, NO_PTS, 0, NO_PTS, 40])
    assert put_behind(times, ALL(6, bool), (3,)).tolist() == [0, 40, NO_PTS, 80, NO_PTS, 120]
