"""A window of the best frames with their surroundings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.retrieve.windows import window_of_hits, window_with_context
from hybrid.values import Hits


def hits_of(rows: np.ndarray, similarity: np.ndarray) -> Hits:
    order = np.lexsort((rows, -similarity))
    return Hits(rows=rows[order], similarities=similarity[order].astype(np.float32))


@st.composite
def videos(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (some left out as repeats), their times (uneven), their similarities (with ties)."""
    steps = draw(st.lists(st.sampled_from([0.3, 1.0, 1.1, 7.0]), min_size=1, max_size=60))
    seconds = np.cumsum(steps)
    rows = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=len(steps), max_size=len(steps))))
    similarity = np.array(draw(st.lists(st.integers(0, 5), min_size=len(steps), max_size=len(steps)))) / 10
    return rows, seconds, similarity


@given(videos(), st.integers(1, 80))
def test_without_surroundings_it_is_the_window_of_the_best(
    video: tuple[np.ndarray, np.ndarray, np.ndarray], size: int
) -> None:
    rows, seconds, similarity = video
    hits = hits_of(rows, similarity)
    window = window_with_context(hits, rows, seconds, size=size, context_seconds=0.0)
    plain = window_of_hits(hits, size)
    assert window.rows.tolist() == plain.rows.tolist()
    assert window.similarities is not None
    assert plain.similarities is not None
    assert window.similarities.tolist() == plain.similarities.tolist()


@given(videos(), st.integers(1, 80), st.floats(0, 20))
def test_what_a_window_with_surroundings_holds(
    video: tuple[np.ndarray, np.ndarray, np.ndarray], size: int, context_seconds: float
) -> None:
    rows, seconds, similarity = video
    hits = hits_of(rows, similarity)
    window = window_with_context(hits, rows, seconds, size=size, context_seconds=context_seconds)
    assert len(window.rows) == min(size, len(rows))
    assert (np.diff(window.rows) > 0).all()
    assert hits.rows[0] in window.rows
    place = np.searchsorted(rows, window.rows)
    assert rows[place].tolist() == window.rows.tolist()
    assert window.similarities is not None
    assert window.similarities.tolist() == similarity[place].astype(np.float32).tolist()
    # Frames are taken for the best frame first: the whole of its surroundings is there, if there is room for it.
    best = seconds[np.searchsorted(rows, hits.rows[0])]
    around = rows[(seconds >= best - context_seconds) & (seconds <= best + context_seconds)]
    if len(around) <= size:
        assert set(around.tolist()) <= set(window.rows.tolist())


@pytest.mark.parametrize(
    ("size", "rows"),
    [
        (1, [10]),
        (4, [8, 9, 10, 11]),  # of frames equally far the earlier first: 10, 9, 11, 8
        (5, [8, 9, 10, 11, 12]),
        (6, [8, 9, 10, 11, 12, 13]),  # the next best, 12, is there already, and brings 13 and 14 along
        (8, [8, 9, 10, 11, 12, 13, 14, 30]),
        (10, [8, 9, 10, 11, 12, 13, 14, 29, 30, 31]),
        (17, [*range(8, 15), *range(28, 33), *range(48, 53)]),
    ],
)
def test_surroundings_come_frame_by_frame_the_nearest_first(size: int, rows: list[int]) -> None:
    similarity = np.full(60, 0.1)
    similarity[10], similarity[12], similarity[30], similarity[50] = 0.9, 0.8, 0.7, 0.6
    hits = hits_of(np.arange(60), similarity)
    window = window_with_context(hits, np.arange(60), np.arange(60.0), size=size, context_seconds=2.0)
    assert window.rows.tolist() == rows
