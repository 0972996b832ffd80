"""The ratio that is reported of two versions, on made-up times."""

from __future__ import annotations

import pytest

from bench.latency.two_versions import ratio_of_pairs


def test_the_ratio_is_how_many_times_faster_the_new_version_is() -> None:
    ratio = ratio_of_pairs([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (ratio.value, ratio.low, ratio.high, ratio.pairs) == pytest.approx((2.0, 2.0, 2.0, 3))


def test_the_interval_holds_what_pairs_differ_by() -> None:
    ratio = ratio_of_pairs([1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0], [1.0] * 7)
    assert 0.85 < ratio.low < ratio.value < ratio.high < 1.15


def test_a_slow_minute_that_meets_both_versions_moves_nothing() -> None:
    assert ratio_of_pairs([1.0, 10.0], [1.0, 10.0]).value == pytest.approx(1.0)
