"""The plan against a brute-force rule and against a model of a codec with references."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import VideoOpenError
from hybrid.frames.packets.plan import (
    NO_PTS,
    Clock,
    Packets,
    entries,
    exact_grid,
    grid_size,
    keyframe_grid,
    keyframe_jobs,
    plan_jobs,
    presentation_order,
    restrict,
    unsafe_reason,
)


@dataclass(frozen=True)
class Stream:
    """A made-up stream and what each of its pictures needs to be decoded."""

    packets: Packets
    needs: list[set[int]]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Groups of pictures, closed or open, with B pictures, uneven times and keys that are no entries.

    Pictures shown from an entry on need only each other. Pictures that follow the entry in order
    of decoding but are shown before it may need those before it as well.
    """
    pts: list[int] = []
    key: list[bool] = []
    entry: list[bool] = []
    needs: list[set[int]] = []
    clock = draw(st.integers(0, 50))
    usable: list[int] = []
    for number in range(draw(st.integers(1, 5))):
        leading = draw(st.integers(0, 3)) if number else 0
        times = []
        for _ in range(leading + 1 + draw(st.integers(0, 8))):
            times.append(clock)
            clock += draw(st.integers(1, 40))
        is_entry = draw(st.booleans()) or number == 0
        before = list(usable)
        if is_entry:
            usable = []
        order = [times[leading], *times[:leading], *_with_anchors_first(draw, times[leading + 1 :])]
        for place, time in enumerate(order):
            is_leading = 1 <= place <= leading
            pool = [*before, *usable] if is_leading else usable
            needs.append(draw(st.sets(st.sampled_from(pool), max_size=3)) if pool else set())
            if is_leading:
                before.append(len(pts))
            else:
                usable.append(len(pts))
            pts.append(time)
            key.append(place == 0)
            entry.append(place == 0 and is_entry)
    count = len(pts)
    return Stream(Packets(np.array(pts), np.ones(count, bool), np.array(key), np.array(entry)), needs)


def _with_anchors_first(draw: st.DrawFn, times: list[int]) -> list[int]:
    """Order of decoding for pictures in order of presentation: of each few, the last comes first."""
    order: list[int] = []
    while len(order) < len(times):
        few = times[len(order) : len(order) + draw(st.integers(1, 4))]
        order += [few[-1], *few[:-1]]
    return order


def closure(needs: list[set[int]], picture: int) -> set[int]:
    """Everything that must be decoded for a picture, itself included."""
    found: set[int] = set()
    todo = [picture]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(needs[one])
    return found


@given(streams(), st.data(), st.booleans())
def test_every_wanted_picture_has_all_that_it_needs_in_its_own_job(
    stream: Stream, data: st.DataObject, stop_early: bool
) -> None:
    order = presentation_order(stream.packets)
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(order))), min_size=1)))
    requested = order[chosen]
    starts = entries(stream.packets)
    jobs = plan_jobs(stream.packets, starts, requested, stop_early=stop_early)
    assert [picture for job in jobs for picture in job.requested] == requested.tolist()
    for job in jobs:
        assert job.start in starts
        for picture in job.requested:
            assert closure(stream.needs, picture) <= set(range(job.start, job.last + 1))
        if stop_early:
            assert job.last == max(job.requested)


@given(streams())
def test_nothing_decoded_before_an_entry_is_shown_after_it(stream: Stream) -> None:
    pts = stream.packets.pts
    starts = entries(stream.packets)
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    for start in starts[1:]:
        assert pts[:start].max() < pts[start]
        assert stream.packets.entry[start]


def test_repeats_of_one_picture_are_decoded_once() -> None:
    packets = Packets(np.array([0, 10, 20]), np.ones(3, bool), np.array([True, False, False]), np.array([True] * 3))
    jobs = plan_jobs(packets, entries(packets), np.array([0, 0, 1, 1, 2]))
    assert [job.requested for job in jobs] == [(0,), (1,), (2,)]


def test_groups_without_a_wanted_picture_are_left_out() -> None:
    key = np.arange(100) % 10 == 0
    packets = Packets(np.arange(100), np.ones(100, bool), key, key)
    jobs = plan_jobs(packets, entries(packets), np.array([3, 47]))
    assert [(job.start, job.last) for job in jobs] == [(0, 3), (40, 47)]
    assert plan_jobs(packets, entries(packets), np.array([], dtype=np.int64)) == []


@st.composite
def timelines(draw: st.DrawFn) -> tuple[Packets, Clock, float]:
    """Pictures with distinct times in any order, a clock, and a rate."""
    base = draw(st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 30000)]))
    span = int(8 / base)
    times = draw(st.lists(st.integers(0, span), min_size=1, max_size=40, unique=True))
    offset = draw(st.integers(-span, span))
    packets = Packets(
        np.array(times) + offset,
        np.ones(len(times), bool),
        np.array(draw(_flags(len(times)))),
        np.zeros(len(times), bool),
    )
    zero = (min(times) + offset - draw(st.integers(0, span // 4))) * base
    return packets, Clock(base, zero), draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, 29.97]))


def _flags(count: int) -> st.SearchStrategy[list[bool]]:
    return st.lists(st.booleans(), min_size=count, max_size=count)


@given(timelines())
def test_exact_samples_are_the_last_frames_that_have_begun(timeline: tuple[Packets, Clock, float]) -> None:
    packets, clock, rate = timeline
    exact = [time * clock.time_base - clock.zero for time in packets.pts.tolist()]
    end = float(max(exact)) + 0.5
    requested = exact_grid(packets, clock, rate, end_seconds=end)
    chosen = dict(zip(requested.ordinals.tolist(), requested.packets.tolist(), strict=True))
    missing = {gap.ordinal for gap in requested.missing}
    slack = Fraction(1, 10**6)
    assert sorted([*chosen, *missing]) == list(range(grid_size(end, rate)))
    for k in [*chosen, *missing]:
        now, following = Fraction(k / rate), Fraction((k + 1) / rate)
        begun = [time for time in exact if time <= now + slack]
        if begun:
            assert exact[chosen[k]] == max(begun)
        elif min(exact) < following - slack:
            assert exact[chosen[k]] == min(exact)
        else:
            assert k in missing or min(exact) < following


@given(timelines())
def test_key_frame_samples_are_the_first_key_frames_of_their_intervals(timeline: tuple[Packets, Clock, float]) -> None:
    packets, clock, rate = timeline
    requested = keyframe_grid(packets, clock, rate)
    keys = sorted(float(clock.seconds(int(time))) for time in packets.pts[packets.key])
    assert sorted({int((time + 1e-6) * rate) for time in keys}) == requested.ordinals.tolist()
    for k, packet in zip(requested.ordinals.tolist(), requested.packets.tolist(), strict=True):
        assert packets.key[packet]
        assert float(clock.seconds(int(packets.pts[packet]))) == min(t for t in keys if int((t + 1e-6) * rate) == k)
    jobs = keyframe_jobs(packets, requested.packets)
    assert [(job.start, job.last, *job.requested) for job in jobs] == [(i, i, i) for i in requested.packets.tolist()]
    with_next = keyframe_jobs(packets, requested.packets, stop_early=False)
    assert [job.last for job in with_next] == [min(i + 1, len(packets) - 1) for i in requested.packets.tolist()]


@given(timelines(), st.sets(st.integers(0, 40)))
def test_restricting_keeps_the_same_frames(timeline: tuple[Packets, Clock, float], asked: set[int]) -> None:
    packets, clock, rate = timeline
    every = exact_grid(packets, clock, rate, end_seconds=8.0)
    some = restrict(every, np.array(sorted(asked), dtype=np.int64))
    full = dict(zip(every.ordinals.tolist(), every.packets.tolist(), strict=True))
    kept = dict(zip(some.ordinals.tolist(), some.packets.tolist(), strict=True))
    assert kept == {k: full[k] for k in full if k in asked}
    assert {gap.ordinal for gap in some.missing} == asked & {gap.ordinal for gap in every.missing}


def test_a_late_first_frame_stands_for_the_sample_before_it_only() -> None:
    packets = Packets(np.array([2500, 3500]), np.ones(2, bool), np.array([True, False]), np.array([True, False]))
    requested = exact_grid(packets, Clock(Fraction(1, 1000), Fraction(0)), 1.0, end_seconds=4.5)
    assert requested.ordinals.tolist() == [2, 3, 4]
    assert requested.packets.tolist() == [0, 0, 1]
    assert [gap.ordinal for gap in requested.missing] == [0, 1]
    assert "2.500 s" in requested.missing[0].reason


def test_a_frame_that_an_edit_list_cuts_off_is_never_chosen() -> None:
    packets = Packets(np.array([0, 10, 20]), np.array([True, False, True]), np.array([True] * 3), np.array([True] * 3))
    assert presentation_order(packets).tolist() == [0, 2]
    assert entries(packets).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("pts", "reason"),
    [
        ([0, NO_PTS, 2], "without time stamps"),
        ([0, 1, 1], "one time stamp"),
        ([*range(100, 300), *range(100)], "go back"),
        ([0, 3, 1, 2, 6, 4, 5], None),
        ([0, 100_000, 1, 2, 3], None),
    ],
)
def test_streams_whose_packets_do_not_tell(pts: list[int], reason: str | None) -> None:
    count = len(pts)
    packets = Packets(np.array(pts), np.ones(count, bool), np.zeros(count, bool), np.zeros(count, bool))
    found = unsafe_reason(packets)
    assert found is None if reason is None else reason in str(found)


def test_an_absurd_time_stamp_does_not_fill_the_memory() -> None:
    with pytest.raises(VideoOpenError, match="damaged"):
        grid_size(1e12, 1.0)


@given(st.integers(-(10**12), 10**12), st.sampled_from([Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 10**6)]))
def test_seconds_and_ticks_agree(tick: int, base: Fraction) -> None:
    clock = Clock(base, Fraction(tick) * base / 3)
    assert clock.ticks(clock.seconds(tick)) == pytest.approx(tick, abs=max(1, 2e-6 / base))
