"""AKS against the frames that its authors published for LongVideoBench, without their scores.

The scores are not published, but a selection shows where its tree was split: a full split of depth d has K / 2^d
frames in each of 2^d parts, and a root leaf (plain top-K) has, unless by chance, an uneven number in the two halves.
With scores 1 on the published frames and 0 elsewhere, the rule must give back the published frames: split to the
bottom (threshold infinite) for the one, a leaf at once (threshold -1) for the other. This fixes where halves are cut,
how the budget is shared and in which order frames come out; it does not test scaling, threshold or ties.

The number of candidates was inferred and may be off by one for some videos. For K = 64 the root leaves are those that
are uneven with one more and one less as well; for K = 32 three full splits show only with one more or one less.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.datasets.longvideobench import load_longvideobench
from bench.datasets.lvb_selections import PublishedSelections, load_published_selections
from hybrid.selectors.aks import aks


@pytest.fixture(scope="module")
def published(shared_data: Path) -> list[PublishedSelections]:
    folder = shared_data / "longvideobench"
    return load_published_selections(folder, load_longvideobench(folder))


def frames_of_parts(rows: np.ndarray, count: int, depth: int) -> list[int]:
    """How many rows lie in each of the 2^depth parts that halving gives."""
    cuts = [0, count]
    for _ in range(depth):
        cuts = [0, *(cut for low, high in pairwise(cuts) for cut in (low + (high - low) // 2, high))]
    return np.diff(np.searchsorted(rows, cuts)).tolist()


def selections(published: Sequence[PublishedSelections], frames: int) -> list[tuple[np.ndarray, int]]:
    """Rows and number of candidates of each list of ``frames`` frames."""
    lists = []
    for row in published:
        chosen = np.array(row.aks_64 if frames == 64 else row.aks_32)
        assert (chosen % int(row.fps) == 0).all()
        if len(chosen) == frames:
            lists.append((chosen // int(row.fps), row.candidates))
    return lists


def is_full(rows: np.ndarray, count: int, depth: int) -> bool:
    return frames_of_parts(rows, count, depth) == [len(rows) >> depth] * (1 << depth)


def is_uneven(rows: np.ndarray, count: int) -> bool:
    return frames_of_parts(rows, count, 1) != [len(rows) // 2] * 2


def counts_near(rows: np.ndarray, count: int) -> list[int]:
    return [near for near in (count, count - 1, count + 1) if near > rows.max()]


def replay(rows: np.ndarray, count: int, *, depth: int, threshold: float) -> list[int]:
    scores = np.zeros(count)
    scores[rows] = 1.0
    return aks(scores, len(rows), depth=depth, threshold=threshold, faithful=True).tolist()


@pytest.mark.parametrize(("frames", "depth", "expected"), [(64, 3, 234), (32, 5, 193)])
def test_full_splits_come_back(published: list[PublishedSelections], frames: int, depth: int, expected: int) -> None:
    found = []
    for rows, count in selections(published, frames):
        fitting = [near for near in counts_near(rows, count) if is_full(rows, near, depth)]
        if fitting:
            found.append(replay(rows, fitting[0], depth=depth, threshold=np.inf) == rows.tolist())
    assert (sum(found), len(found)) == (expected, expected)


@pytest.mark.parametrize(("frames", "depth", "expected"), [(64, 3, 689), (32, 5, 793)])
def test_root_leaves_come_back(published: list[PublishedSelections], frames: int, depth: int, expected: int) -> None:
    found = []
    for rows, count in selections(published, frames):
        near = counts_near(rows, count)
        certain = all(is_uneven(rows, n) for n in near) if frames == 64 else is_uneven(rows, count)
        if certain and not any(is_full(rows, n, depth) for n in near):
            found.append(replay(rows, count, depth=depth, threshold=-1.0) == rows.tolist())
    assert (sum(found), len(found)) == (expected, expected)


def test_no_list_is_split_deeper_than_published(published: list[PublishedSelections]) -> None:
    assert not any(is_full(rows, count, 4) for rows, count in selections(published, 64))


def test_the_short_videos_keep_all_their_candidates(published: list[PublishedSelections]) -> None:
    short = [row for row in published if row.candidates < 64]
    assert len(short) == 361
    for row in short:
        assert aks(np.linspace(0, 1, row.candidates), 64, faithful=True).tolist() == list(range(row.candidates))
        assert abs(len(row.aks_64) - row.candidates) <= 1
    # Of four the inferred number is off by one.
    assert sum(row.aks_64 == row.candidate_frames().tolist() for row in short) == 357
