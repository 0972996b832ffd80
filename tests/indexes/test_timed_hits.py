"""The times of what a search finds are those of the index that was searched, whatever writers do meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from archive_samples import some_config, some_index, unit_vectors, video_id

from hybrid.values import Timeline
from indexes.ann.search_params import SearchParams
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.format.manifest import Manifest
from indexes.search.timed_hits import TimedHits, find_timed_hits

ONE, QUERY = video_id(1), unit_vectors(1, 16, 5)[0]

Write = Callable[[Archive], object]


@pytest.fixture
def filled(archive: Archive) -> Archive:
    for number in range(3):
        archive.commit(video_id(number), NewIndex(**some_index(number)))
    return archive


def written_before_its_times_are_read(monkeypatch: pytest.MonkeyPatch, archive: Archive, *writes: Write) -> None:
    """Another process writes each time when the times of the video are about to be read, as long as there is a write.

    The hits of the search are known by then.
    """
    look, left = Archive.timeline, list(writes)

    def meanwhile(self: Archive, video: str | Manifest) -> Timeline:
        if left and isinstance(video, Manifest) and video.video_id == ONE:
            with Archive.open(archive.folder) as other:
                left.pop(0)(other)
        return look(self, video)

    monkeypatch.setattr(Archive, "timeline", meanwhile)


def commit(seed: int, **changes: Any) -> Write:
    return lambda archive: archive.commit(ONE, NewIndex(**{**some_index(seed, count=5), **changes}))


def search(archive: Archive, manifests: list[Manifest], top: int) -> TimedHits:
    return find_timed_hits(archive, manifests, QUERY, top, params=SearchParams())


def assert_whole(archive: Archive, timed: TimedHits) -> None:
    """Each hit has the similarity and the time that its row has in the archive now."""
    assert set(timed.timelines) == set(timed.found.hits)
    for name, hits in timed.found.hits.items():
        assert timed.found.manifests[name] == archive.require(name)
        np.testing.assert_allclose(archive.read(name)[hits.rows] @ QUERY, hits.similarities, atol=1e-5)
        np.testing.assert_array_equal(timed.timelines[name].pts_seconds, archive.timeline(name).pts_seconds)


def test_a_video_that_is_replaced_is_searched_again(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = list(filled.manifests())
    written_before_its_times_are_read(monkeypatch, filled, commit(77))
    timed = search(filled, manifests, 1000)
    assert timed.found.failed == {}
    assert {name: len(hits) for name, hits in timed.found.hits.items()} == {video_id(0): 40, ONE: 5, video_id(2): 40}
    assert_whole(filled, timed)


@pytest.mark.parametrize(
    ("writes", "reason"),
    [
        ([lambda archive: archive.remove(ONE)], None),
        ([commit(77), commit(78)], "replaced or removed by another process"),
        ([commit(77, config=some_config("another"))], "indexed anew with another encoder"),
    ],
    ids=["removed", "replaced twice", "another encoder"],
)
def test_a_video_that_cannot_be_dated_is_named_and_others_take_its_place(
    filled: Archive, monkeypatch: pytest.MonkeyPatch, writes: list[Write], reason: str | None
) -> None:
    manifests = list(filled.manifests())
    expected = search(filled, [manifest for manifest in manifests if manifest.video_id != ONE], 60).found
    written_before_its_times_are_read(monkeypatch, filled, *writes)
    timed = search(filled, manifests, 60)
    # What was removed is not there, as if it had been removed before.
    assert list(timed.found.failed) == ([] if reason is None else [ONE])
    assert reason is None or reason in timed.found.failed[ONE]
    assert timed.found.searched == {video_id(0), video_id(2)}
    assert {name: hits.rows.tolist() for name, hits in timed.found.hits.items()} == {
        name: hits.rows.tolist() for name, hits in expected.hits.items()
    }
    assert_whole(filled, timed)


def test_a_video_whose_times_are_damaged_is_named(filled: Archive) -> None:
    (path,) = (filled.folder / "videos" / ONE).glob("timeline-*")
    path.write_bytes(path.read_bytes()[:-3])
    timed = search(filled, list(filled.manifests()), 10)
    assert list(timed.found.failed) == [ONE]
    assert "its content is not what was written" in timed.found.failed[ONE]
    assert sum(map(len, timed.found.hits.values())) == 10


def test_hits_of_a_new_index_have_its_manifest(filled: Archive) -> None:
    """The scan itself finds that the video was indexed anew."""
    manifests = list(filled.manifests())
    filled.commit(ONE, NewIndex(**some_index(77, count=5)))
    timed = search(filled, manifests, 1000)
    assert timed.found.manifests[ONE].frames == 5
    assert_whole(filled, timed)
