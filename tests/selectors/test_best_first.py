"""The choice of K frames from GenS's scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import InputError
from hybrid.selectors.best_first import best_first, spread
from hybrid.selectors.candidates import Candidates
from hybrid.selectors.registry import select

score_lists = st.lists(st.integers(0, 5), max_size=80).map(np.array)
budgets = st.integers(1, 100)


@given(score_lists, budgets)
def test_it_takes_the_best_scores_and_never_an_unscored_frame(scores: np.ndarray, frames: int) -> None:
    rows = best_first(scores, frames)
    assert (np.diff(rows) > 0).all()
    assert len(rows) == min(frames, int((scores > 0).sum()))
    best = sorted((int(s) for s in scores if s > 0), reverse=True)[: len(rows)]
    assert sorted((int(scores[row]) for row in rows), reverse=True) == best


@given(score_lists, budgets)
def test_a_larger_budget_keeps_every_score_that_was_complete(scores: np.ndarray, frames: int) -> None:
    rows = set(best_first(scores, frames).tolist())
    least = min((int(scores[row]) for row in rows), default=0)
    above = {int(row) for row in np.flatnonzero(scores > least)} if least else set()
    assert above <= rows


def test_the_published_reply_selects_11_and_12_first() -> None:
    scores = np.zeros(51, dtype=np.int8)
    for first, last, score in [(11, 12, 5), (16, 21, 4), (28, 30, 4), (46, 49, 4), (22, 27, 3), (33, 33, 2)]:
        scores[first : last + 1] = score
    assert best_first(scores, 2).tolist() == [11, 12]
    # 13 frames have a score of 4; four places are spread over them: the middles of four parts.
    assert best_first(scores, 6).tolist() == [11, 12, 17, 20, 30, 48]
    assert len(best_first(scores, 64)) == 22


@pytest.mark.parametrize(
    ("count", "places", "expected"), [(10, 1, [5]), (10, 2, [2, 7]), (9, 3, [1, 4, 7]), (3, 5, [0, 1, 2])]
)
def test_spread_takes_the_middle_of_equal_parts(count: int, places: int, expected: list[int]) -> None:
    assert spread(np.arange(count), places).tolist() == expected


@given(st.integers(1, 200), st.integers(1, 200))
def test_spread_never_takes_one_twice(count: int, places: int) -> None:
    rows = spread(np.arange(count), places)
    assert len(set(rows.tolist())) == min(count, places)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        select("best_first", Candidates(seconds=np.zeros(1), scores=np.array([5.0])), 0)
