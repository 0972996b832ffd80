"""Spans: what must hold for any input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.answers import Span
from hybrid.errors import InputError
from hybrid.spans import merge_spans, spans_of_scores
from hybrid.values import MissingFrame, Sampling, SamplingPolicy, Timeline
from tests.strategies import spans, timelines

gaps = st.sampled_from([0.0, 0.5, 1.0, 100.0])


def at_one_fps(count: int) -> Timeline:
    rows = np.arange(count, dtype=np.int64)
    return Timeline(rows, rows.astype(np.float64), rows, Sampling(), float(count))


@given(st.lists(spans()), gaps)
def test_merged_spans_are_sorted_and_further_apart_than_the_gap(parts: list[Span], gap: float) -> None:
    merged = merge_spans(parts, gap_seconds=gap)
    for first, second in itertools.pairwise(merged):
        assert second.start_seconds > first.end_seconds + gap


@given(st.lists(spans()), gaps)
def test_merging_again_changes_nothing(parts: list[Span], gap: float) -> None:
    merged = merge_spans(parts, gap_seconds=gap)
    assert merge_spans(merged, gap_seconds=gap) == merged


@given(st.lists(spans()), gaps, st.randoms())
def test_the_order_of_the_parts_does_not_matter(parts: list[Span], gap: float, random) -> None:
    shuffled = parts[:]
    random.shuffle(shuffled)
    assert merge_spans(shuffled, gap_seconds=gap) == merge_spans(parts, gap_seconds=gap)


@given(st.lists(spans()), gaps)
def test_nothing_is_lost_and_the_best_score_stands(parts: list[Span], gap: float) -> None:
    merged = merge_spans(parts, gap_seconds=gap)
    for part in parts:
        homes = [m for m in merged if m.start_seconds <= part.start_seconds and part.end_seconds <= m.end_seconds]
        assert len(homes) >= 1
        assert max(home.score for home in homes) >= part.score
    if parts:
        assert max(m.score for m in merged) == max(p.score for p in parts)


@given(timelines(), st.data(), gaps, st.integers(1, 5))
def test_spans_lie_within_the_video_and_cover_just_the_relevant_frames(
    line: Timeline, data: st.DataObject, gap: float, least: int
) -> None:
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(line), max_size=len(line))))
    found = spans_of_scores(line, scores, min_score=least, gap_samples=0, gap_seconds=gap)
    assert all(0 <= span.start_seconds <= span.end_seconds <= line.duration_seconds + 1e-9 for span in found)
    for row in range(len(line)):
        inside = any(s.start_seconds <= line.pts_seconds[row] <= s.end_seconds for s in found)
        if scores[row] >= least:
            assert inside
        elif gap == 0 and len(found) and inside:
            # A frame below the score lies inside only where it touches or shows a relevant frame.
            near = np.flatnonzero(scores >= least)
            until = line.until_seconds()
            assert any(line.pts_seconds[n] <= line.pts_seconds[row] <= until[n] for n in near)


def test_the_published_reply_gives_these_spans() -> None:
    scores = np.zeros(51, dtype=np.int8)
    for first, last, score in [(11, 12, 5), (16, 21, 4), (28, 30, 4), (46, 49, 4), (22, 27, 3), (33, 33, 2)]:
        scores[first : last + 1] = score
    found = spans_of_scores(at_one_fps(51), scores, min_score=4)
    assert [(s.start_seconds, s.end_seconds, s.score) for s in found] == [
        (11.0, 13.0, 5.0),
        (16.0, 22.0, 4.0),
        (28.0, 31.0, 4.0),
        (46.0, 50.0, 4.0),
    ]


@pytest.mark.parametrize("policy", ["exact", "keyframes"])
@pytest.mark.parametrize("seconds_a_sample", [1.0, 1.001, 0.968, 7.3])
def test_a_gap_of_one_sample_is_bridged_and_of_two_is_not(policy: SamplingPolicy, seconds_a_sample: float) -> None:
    # On 29.97 fps the seconds between two samples are 0.968 or 1.001, between key frames anything.
    rows = np.arange(7, dtype=np.int64)
    pts = rows * seconds_a_sample
    line = Timeline(rows, pts, rows, Sampling(policy=policy), float(pts[-1] + 1))
    found = spans_of_scores(line, np.array([5, 0, 5, 0, 0, 5, 0]), min_score=4)
    assert [(s.start_seconds, s.end_seconds) for s in found] == [(pts[0], pts[3]), (pts[5], pts[6])]


def test_a_missing_sample_is_bridged_and_a_hole_is_not() -> None:
    ordinals = np.array([0, 2, 3, 10])
    line = Timeline(
        ordinals,
        ordinals.astype(np.float64),
        ordinals,
        Sampling(),
        11.0,
        tuple(MissingFrame(k, "damaged") for k in (1, 4, 5, 6, 7, 8, 9)),
    )
    found = spans_of_scores(line, np.array([5, 5, 5, 5]))
    assert [(s.start_seconds, s.end_seconds) for s in found] == [(0.0, 4.0), (10.0, 11.0)]


def test_scores_must_be_one_a_frame() -> None:
    with pytest.raises(InputError, match="one a frame"):
        spans_of_scores(at_one_fps(3), np.zeros(4))


def test_a_negative_gap_is_refused() -> None:
    with pytest.raises(InputError, match="gap_samples"):
        spans_of_scores(at_one_fps(1), np.zeros(1), gap_samples=-1)
    with pytest.raises(InputError, match="gap_seconds"):
        merge_spans([], gap_seconds=-1)


def test_spans_of_different_scorers_do_not_merge() -> None:
    with pytest.raises(InputError, match="do not compare"):
        merge_spans([Span(0, 1, 5, "gens"), Span(0, 1, 0.3, "clip")])


def test_the_best_part_of_a_span_is_told_where_it_is_not_all_of_it() -> None:
    timeline = at_one_fps(10)
    scores = np.array([0, 4, 4, 5, 5, 5, 4, 5, 0, 0])
    (span,) = spans_of_scores(timeline, scores)
    assert (span.start_seconds, span.end_seconds, span.score) == (1.0, 8.0, 5.0)
    assert span.best == (3.0, 6.0)
    (even,) = spans_of_scores(timeline, np.where(scores > 0, 5, 0))
    assert even.best is None


@given(st.lists(st.sampled_from([0, 0, 4, 5]), min_size=1, max_size=40))
def test_the_best_part_lies_in_its_span_and_has_its_score(scores: list[int]) -> None:
    timeline = at_one_fps(len(scores))
    for span in spans_of_scores(timeline, np.array(scores)):
        start, end = span.best or (span.start_seconds, span.end_seconds)
        assert span.start_seconds <= start < end <= span.end_seconds
        if span.best is not None:
            # A sample without a score is bridged here as it is in the span.
            assert set(scores[int(start) : int(end)]) <= {0, int(span.score)}
            assert scores[int(start)] == scores[int(end) - 1] == int(span.score)


def test_merging_keeps_the_best_part_of_the_better_span() -> None:
    lead, answer = Span(0, 4, 4.0), Span(4, 9, 5.0)
    assert merge_spans([answer, lead]) == merge_spans([lead, answer]) == (Span(0, 9, 5.0, "gens", 4, 9),)
    assert merge_spans([Span(0, 4, 5.0), Span(4, 9, 5.0)]) == (Span(0, 9, 5.0),)
    assert merge_spans([Span(0, 4, 5.0), Span(5, 9, 5.0)], gap_seconds=1) == (Span(0, 9, 5.0),)
    assert merge_spans([Span(0, 1, 5.0), Span(1, 2, 4.0), Span(1, 2, 5.0)]) == (Span(0, 2, 5.0),)


def test_of_equally_long_best_parts_the_first_is_told() -> None:
    (span,) = spans_of_scores(at_one_fps(7), np.array([5, 4, 5, 4, 5, 4, 4]))
    assert span.best == (0.0, 1.0)
    parts = [Span(start, start + 2.0, 4, "gens", start + 1.0, start + 2.0) for start in (0.0, 2.0)]
    (merged,) = merge_spans(parts)
    assert merged.best == (1.0, 2.0)


def test_only_spans_by_gens_have_a_best_part() -> None:
    (span,) = spans_of_scores(at_one_fps(3), np.array([0.5, 0.75, 0.75]), min_score=0.4, scorer="clip")
    assert (span.score, span.best) == (0.75, None)


def test_a_gap_between_key_frames_is_counted_by_key_frames() -> None:
    rows, ordinals = np.arange(4), np.array([0, 5, 10, 15])
    timeline = Timeline(ordinals, ordinals.astype(np.float64), ordinals, Sampling(policy="keyframes"), 20.0)
    scores = np.where(np.isin(rows, [0, 2]), 5, 0)
    assert [(s.start_seconds, s.end_seconds) for s in spans_of_scores(timeline, scores)] == [(0.0, 15.0)]
