"""The choice of K frames from similarities alone."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid.errors import InputError
from hybrid.selectors.most_similar import most_similar


def test_the_most_similar_come_back_in_time_order() -> None:
    assert most_similar(np.float32([0.1, 0.9, 0.3, 0.8]), 2).tolist() == [1, 3]


def test_among_equal_ones_the_earlier_stands() -> None:
    assert most_similar(np.float32([0.5, 0.5, 0.5]), 2).tolist() == [0, 1]


def test_fewer_than_asked_for_gives_all() -> None:
    assert most_similar(np.float32([0.5, 0.1]), 9).tolist() == [0, 1]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        most_similar(np.float32([0.5]), 0)
