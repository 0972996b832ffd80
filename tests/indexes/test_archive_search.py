"""The best frames of many videos: those that numpy finds on all vectors together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from archive_samples import some_config, some_index, unit_vectors, video_id

from hybrid.errors import InputError
from hybrid.values import Sampling, Timeline
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.search.archive_search import search_archive_vectors
from indexes.stores.interface import Found, VectorStore

DIMENSION = 16
TIE = 1e-6


def held_timeline(count: int, hold: int) -> Timeline:
    """Each frame stands for ``hold`` samples."""
    return Timeline(
        ordinals=np.arange(count),
        pts_seconds=(np.arange(count) // hold).astype(np.float64),
        frame_numbers=np.arange(count) // hold,
        sampling=Sampling(),
        duration_seconds=float(count),
    )


def fill(archive: Archive, seed: int, videos: int) -> None:
    """Videos of some frames each, some with held frames, some with vectors that others have too."""
    dice = np.random.default_rng(seed)
    pool = unit_vectors(30, DIMENSION, seed)
    for number in range(videos):
        index = some_index(number, count=int(dice.integers(1, 25)), dimension=DIMENSION)
        count, hold = len(index["timeline"]), int(dice.choice([1, 1, 4]))
        chosen = dice.integers(0, len(pool), count)
        index["vectors"] = pool[chosen] if hold == 1 else np.repeat(pool[chosen], hold, axis=0)[:count]
        index["timeline"] = held_timeline(count, hold)
        archive.commit(video_id(number), NewIndex(**index))


def distinct_vectors(archive: Archive) -> dict[tuple[str, int], npt.NDArray[np.float64]]:
    """The vector of every distinct frame, by video and row."""
    found = {}
    for manifest in archive.manifests():
        vectors = archive.read(manifest).astype(np.float64)
        found.update(
            {(manifest.video_id, int(row)): vectors[row] for row in archive.timeline(manifest).distinct_rows()}
        )
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_it_finds_what_numpy_finds(archive: Archive, seed: int) -> None:
    fill(archive, seed, videos=12)
    vectors = distinct_vectors(archive)
    for number in range(5):
        query = unit_vectors(1, DIMENSION, 100 * seed + number)[0]
        truth = {frame: float(vector @ query.astype(np.float64)) for frame, vector in vectors.items()}
        for top in (1, 7, 40, 1000):
            assert_found(archive, query, top, truth)


def assert_found(
    archive: Archive, query: npt.NDArray[np.float32], top: int, expected: dict[tuple[str, int], float]
) -> None:
    """The search gives the best distinct frames of all videos; ``expected`` has the similarity of each frame."""
    found = search_archive_vectors(archive, list(archive.manifests()), query, top, threads=2)
    assert not found.failed
    assert len(found.searched) == 12
    got = {
        (video, int(row)): float(similarity)
        for video, hits in found.hits.items()
        for similarity, row in zip(hits.similarities, hits.rows, strict=True)
    }
    assert len(got) == min(top, len(expected))
    for frame, similarity in got.items():
        assert similarity == pytest.approx(expected[frame], abs=TIE)
    # Nothing that was left out is better than the last that was taken.
    assert min(got.values()) >= sorted(expected.values(), reverse=True)[len(got) - 1] - TIE
    best = [float(hits.similarities[0]) for hits in found.hits.values()]
    assert best == sorted(best, reverse=True)


def test_equal_frames_come_in_order_of_videos_and_rows(archive: Archive) -> None:
    vectors = np.repeat(unit_vectors(1, DIMENSION, 1), 6, axis=0)
    for number in range(4):
        archive.commit(
            video_id(number), NewIndex(**{**some_index(number, count=6, dimension=DIMENSION), "vectors": vectors})
        )
    found = search_archive_vectors(archive, list(archive.manifests()), vectors[0], 8)
    rows = {video: hits.rows.tolist() for video, hits in found.hits.items()}
    assert rows == {video_id(0): [0, 1, 2, 3, 4, 5], video_id(1): [0, 1]}


def test_only_the_videos_that_are_given_are_searched(archive: Archive) -> None:
    fill(archive, 1, videos=10)
    some = [manifest for manifest in archive.manifests() if int(manifest.video_id, 16) % 3 == 0]
    found = search_archive_vectors(archive, some, unit_vectors(1, DIMENSION, 5)[0], 1000)
    assert found.searched == set(found.hits) == {manifest.video_id for manifest in some}


@pytest.mark.parametrize("low", [False, True])
def test_a_flipped_byte_never_gives_a_frame_that_does_not_belong(tmp_path: Path, low: bool) -> None:
    with Archive.open(tmp_path / "archive", backend="faiss") as archive:
        for number in range(10):
            archive.commit(video_id(number), NewIndex(**some_index(number, dimension=DIMENSION)))
        manifest = archive.require(video_id(4))
        path = archive.store.path(manifest.key)  # type: ignore[attr-defined]
        query = archive.read(manifest)[3]
    data = bytearray(path.read_bytes())
    place = 81 + 2 * (3 * DIMENSION + int(np.argmax(np.abs(query))))
    data[place if low else place + 1] ^= 0x40
    path.write_bytes(bytes(data))
    with Archive.open(tmp_path / "archive", create=False) as archive:
        found = search_archive_vectors(archive, list(archive.manifests()), query, 1000)
        assert set(found.failed) == {video_id(4)}
        assert "hybrid verify" in found.failed[video_id(4)]
        assert video_id(4) not in found.hits
        assert len(found.searched) == 9


def test_a_video_whose_vectors_are_gone_is_named_and_the_others_are_found(archive: Archive) -> None:
    fill(archive, 1, videos=10)
    manifests = list(archive.manifests())
    archive.store.remove(manifests[2].key)
    found = search_archive_vectors(archive, manifests, unit_vectors(1, DIMENSION, 5)[0], 5)
    assert set(found.failed) == {manifests[2].video_id}
    assert len(found.searched) == 9


def test_a_video_that_was_indexed_anew_meanwhile_gives_its_new_frames(archive: Archive) -> None:
    fill(archive, 1, videos=10)
    manifests = list(archive.manifests())
    anew = some_index(77, dimension=DIMENSION)
    archive.commit(manifests[0].video_id, NewIndex(**anew))
    found = search_archive_vectors(archive, manifests, anew["vectors"][5], 1)
    assert list(found.hits) == [manifests[0].video_id]
    assert found.hits[manifests[0].video_id].rows.tolist() == [5]


def test_a_video_that_is_indexed_anew_while_its_vectors_are_compared_is_not_damaged(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.commit(video_id(1), NewIndex(**some_index(1)))
    manifests, kind = list(archive.manifests()), type(archive.store)
    search_many = kind.search_many

    def replaced_meanwhile(self: VectorStore, *arguments: Any, **options: Any) -> Iterator[Found]:
        monkeypatch.setattr(kind, "search_many", search_many)
        with Archive.open(archive.folder) as other:
            other.commit(video_id(1), NewIndex(**some_index(2)))
        return search_many(self, *arguments, **options)

    monkeypatch.setattr(kind, "search_many", replaced_meanwhile)
    found = search_archive_vectors(archive, manifests, unit_vectors(1, 16, 5)[0], 3)
    assert found.failed == {}
    assert sum(map(len, found.hits.values())) == 3


def test_a_video_that_got_another_encoder_meanwhile_is_named(archive: Archive) -> None:
    fill(archive, 1, videos=10)
    manifests = list(archive.manifests())
    anew = {**some_index(77, dimension=24), "config": some_config("another")}
    archive.commit(manifests[0].video_id, NewIndex(**anew))
    found = search_archive_vectors(archive, manifests, unit_vectors(1, DIMENSION, 5)[0], 3)
    assert set(found.failed) == {manifests[0].video_id}


def test_no_video_and_bad_queries(archive: Archive) -> None:
    assert not search_archive_vectors(archive, [], unit_vectors(1, DIMENSION, 5)[0], 5).hits
    fill(archive, 1, videos=2)
    with pytest.raises(InputError, match="top is 0"):
        search_archive_vectors(archive, list(archive.manifests()), unit_vectors(1, DIMENSION, 5)[0], 0)


def test_both_backends_give_the_same(tmp_path: Path) -> None:
    names: tuple[str, ...] = ("faiss", "lancedb")
    query, found = unit_vectors(1, DIMENSION, 5)[0], []
    for name in names:
        with Archive.open(tmp_path / name, backend=name) as archive:
            fill(archive, 4, videos=15)
            found.append(search_archive_vectors(archive, list(archive.manifests()), query, 30).hits)
    assert {video: hits.rows.tolist() for video, hits in found[0].items()} == {
        video: hits.rows.tolist() for video, hits in found[1].items()
    }
    for video, hits in found[0].items():
        np.testing.assert_allclose(hits.similarities, found[1][video].similarities, rtol=0, atol=TIE)
