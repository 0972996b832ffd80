"""Segments: one cut for all questions, and the ones that are most similar to a question."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.retrieve.windows import BEST_OF_SEGMENT, best_segments, cut_segments
from hybrid.values import Hits


@given(st.integers(0, 3000), st.integers(1, 300))
def test_a_cut_is_whole_in_order_and_even(count: int, size: int) -> None:
    rows = np.arange(count) * 3 + 1
    segments = cut_segments(rows, size)
    assert np.concatenate([np.zeros(0, int), *segments]).tolist() == rows.tolist()
    lengths = [len(segment) for segment in segments]
    assert len(lengths) == -(-count // size)
    assert all(1 <= length <= size for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="window is 0"):
        cut_segments(np.arange(3), 0)


def hits_of(similarity: list[float]) -> Hits:
    order = np.lexsort((np.arange(len(similarity)), -np.array(similarity)))
    return Hits(rows=order, similarities=np.array(similarity, dtype=np.float32)[order])


def test_a_stretch_of_good_frames_beats_a_single_better_one() -> None:
    similarity = np.full(60, 0.1)
    similarity[5] = 0.9
    similarity[45 : 45 + BEST_OF_SEGMENT] = 0.4
    segments = cut_segments(np.arange(60), 20)
    (best,) = best_segments(segments, hits_of(similarity.tolist()), 1)
    assert best.rows.tolist() == list(range(40, 60))
    assert best.similarities is not None
    np.testing.assert_allclose(best.similarities, similarity[40:60], rtol=1e-6)


def test_the_best_come_in_time_order_and_of_equal_ones_the_earlier() -> None:
    segments = cut_segments(np.arange(40), 10)
    similarity = [0.2] * 10 + [0.3] * 10 + [0.2] * 10 + [0.5] * 10
    hits = hits_of(similarity)
    assert [window.rows[0] for window in best_segments(segments, hits, 2)] == [10, 30]
    assert [window.rows[0] for window in best_segments(segments, hits, 3)] == [0, 10, 30]
    assert [window.rows[0] for window in best_segments(segments, hits, 9)] == [0, 10, 20, 30]


def test_segments_shorter_than_what_speaks_for_them() -> None:
    segments = cut_segments(np.arange(6), 2)
    assert [window.rows[0] for window in best_segments(segments, hits_of([0, 0, 1, 0, 0.4, 0.4]), 1)] == [2]
