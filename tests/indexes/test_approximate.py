"""The approximate index: what it gives is exact, what it leaves out is little, and nothing makes it wrong."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from approximate_samples import (
    DIMENSION,
    LITTLE,
    MUCH,
    SEGMENT_FRAMES,
    add_video,
    both,
    fill,
    frames_of,
    query_of,
    update,
    video_vectors,
)
from archive_samples import some_index, unit_vectors, video_id
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import IndexDamagedError
from hybrid.storage.locks import Locks
from indexes.ann import code_scan
from indexes.ann.code_scan import MOST_ON_GPU, Scan
from indexes.ann.files import ApproximateFiles
from indexes.ann.product_quantizer import build_scan, decode, encode, pad_query, train_codebook
from indexes.ann.search_params import SearchParams
from indexes.ann.segmentation import MOST_FRAMES, cut_units
from indexes.archive.new_index import NewIndex
from indexes.archive.writer import Archive
from indexes.maintenance.build_ann import update_approximate
from indexes.maintenance.recall import share_found, store_queries
from indexes.maintenance.stats import archive_stats
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from indexes.search.archive_search import STALE_FRAMES, search_archive_vectors
from indexes.stores.registry import STORES
from indexes.stores.vectors import RunProofs, round_vectors, run_checksums

VIDEOS = 24
FRAMES = 40


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One filled archive of each backend, to be copied."""
    places: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # what is written here need not outlive the tests
        for name in STORES.names:
            places[name] = tmp_path_factory.mktemp("masters") / name
            with Archive.open(places[name], backend=name) as archive:
                fill(archive, VIDEOS)
                update(archive)
    return places


@pytest.fixture(scope="module")
def shared(masters: dict[str, Path]) -> Iterator[dict[str, Archive]]:
    """The filled archives, opened; only for tests that do not write."""
    opened = {name: Archive.open(place, create=False) for name, place in masters.items()}
    yield opened
    for archive in opened.values():
        archive.close()


@pytest.fixture
def filled(masters: dict[str, Path], tmp_path: Path) -> Iterator[Archive]:
    """A filled archive of FAISS files that a test may change."""
    with Archive.open(shutil.copytree(masters["faiss"], tmp_path / "copy"), create=False) as archive:
        yield archive


@pytest.fixture
def filled_anyhow(masters: dict[str, Path], backend: str, tmp_path: Path) -> Iterator[Archive]:
    """A filled archive of each backend that a test may change."""
    with Archive.open(shutil.copytree(masters[backend], tmp_path / "copy"), create=False) as archive:
        yield archive


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive of FAISS files."""
    with Archive.open(tmp_path / "fresh", backend="faiss") as archive:
        yield archive


def everything(archive: Archive, seed: int) -> list[tuple[float, str, int]]:
    """All frames with the similarities of an exact search, best first."""
    committed = {manifest.key: manifest.committed for manifest in archive.manifests()}
    frames = []
    for key, hits, _ in archive.store.search_many(committed, query_of(seed), FRAMES):
        assert hits is not None
        frames += [(float(s), key.video_id, int(row)) for s, row in zip(hits.similarities, hits.rows, strict=True)]
    return sorted(frames, key=lambda frame: (-frame[0], frame[1], frame[2]))


def check_returned(archive: Archive, seed: int, top: int, params: SearchParams) -> float:
    """What an approximate search returns is exact; the share of the best that is among it."""
    manifests = list(archive.manifests())
    near = search_archive_vectors(archive, manifests, query_of(seed), top, params=params)
    assert near.approximate is not None
    assert near.approximate.used == (near.approximate.units > params.limit(top))
    truth = everything(archive, seed)
    place = {(video, row): number for number, (_, video, row) in enumerate(truth)}
    found = frames_of(near)
    assert len(found) == top
    # The very similarities of an exact search, and its order, ties included.
    numbers = [place[video, row] for _, video, row in found]
    assert found == [truth[number] for number in numbers]
    assert numbers == sorted(numbers)
    assert near.searched == {manifest.video_id for manifest in manifests}
    assert not near.failed
    return sum(number < top for number in numbers) / top


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), top=st.integers(1, 12), little=st.booleans())
def test_what_is_returned_is_exact(shared: dict[str, Archive], seed: int, top: int, little: bool) -> None:
    check_returned(shared["faiss"], seed, top, LITTLE if little else MUCH)


@pytest.mark.parametrize("name", STORES.names)
def test_nearly_all_of_the_best_are_found(shared: dict[str, Archive], name: str) -> None:
    seeds = range(30) if name == "faiss" else range(4)
    assert np.mean([check_returned(shared[name], seed, 5, MUCH) for seed in seeds]) > 0.9


def test_both_backends_give_the_same_frames(shared: dict[str, Archive]) -> None:
    for seed in range(3):
        found = [frames_of(both(shared[name], seed, 4)[1]) for name in STORES.names]
        assert [frame[1:] for frame in found[0]] == [frame[1:] for frame in found[1]]
        np.testing.assert_allclose([f[0] for f in found[0]], [f[0] for f in found[1]], rtol=0, atol=1e-6)


def test_videos_that_are_not_covered_yet_are_found(filled_anyhow: Archive) -> None:
    add_video(filled_anyhow, 900)
    manifests, query = list(filled_anyhow.manifests()), filled_anyhow.read(video_id(900))[7]
    found = search_archive_vectors(filled_anyhow, manifests, query, 3, params=MUCH)
    assert found.approximate is not None
    assert found.approximate.used
    assert found.approximate.exact_frames >= 40
    assert found.approximate.problem is None
    assert frames_of(found)[0][1:] == (video_id(900), 7)


def test_new_videos_are_appended_and_nothing_else_is_touched(filled: Archive) -> None:
    folder = ApproximateFiles(filled.folder, DIMENSION).folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert update(filled).segments_added == 0
    for number in range(900, 908):
        add_video(filled, number)
    done = update(filled)
    assert (done.segments_added, done.segments_removed, done.trained) == (2, 0, False)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert share_found(*both(filled, 1, 2)) > 0.9


def test_removed_and_changed_videos_do_not_come_back(filled_anyhow: Archive) -> None:
    _, near = both(filled_anyhow, 3, 5)
    first, second = [frame[1] for frame in frames_of(near)][:2], video_id(39)
    filled_anyhow.remove(first[0])
    add_video(filled_anyhow, 39, seed=777)
    exact, near = both(filled_anyhow, 3, 60)
    assert first[0] not in near.hits
    assert near.searched == exact.searched
    query = filled_anyhow.read(second)[11]
    found = search_archive_vectors(filled_anyhow, list(filled_anyhow.manifests()), query, 3, params=MUCH)
    assert frames_of(found)[0][1:] == (second, 11)


def test_segments_of_mostly_removed_videos_go(filled: Archive) -> None:
    for number in range(VIDEOS - 8):
        filled.remove(video_id(number))
    done = update(filled)
    assert done.segments_removed >= 3
    exact, near = both(filled, 5, 20)
    assert near.approximate is not None
    assert frames_of(near) == frames_of(exact)


def test_only_the_videos_that_are_given_are_searched(filled: Archive) -> None:
    some = [manifest for manifest in filled.manifests() if int(manifest.video_id, 16) % 2 == 0]
    found = search_archive_vectors(filled, some, query_of(1), 30, params=LITTLE)
    assert found.approximate is not None
    exact = search_archive_vectors(filled, some, query_of(1), 30)
    assert found.searched == exact.searched == {manifest.video_id for manifest in some}
    assert set(found.hits) <= found.searched
    few = search_archive_vectors(filled, some[:2], query_of(1), 30, params=MUCH)
    assert few.approximate is not None
    assert not few.approximate.used
    assert few.approximate.note == "so few frames are searched exactly"
    assert frames_of(few) == frames_of(search_archive_vectors(filled, some[:2], query_of(1), 30))


@pytest.mark.parametrize("victim", ["index.json", "codebook-", "segment-"])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
def test_damage_makes_nothing_wrong_and_is_mended(filled: Archive, victim: str, harm: str) -> None:
    folder = ApproximateFiles(filled.folder, DIMENSION).folder
    path = sorted(path for path in folder.iterdir() if path.name.startswith(victim))[0]
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        path.write_bytes({"flip": bytes(flipped), "cut": data[: len(data) // 2], "empty": b""}[harm])
    exact, near = both(filled, 2, 30, SearchParams(units=1000, most_units=1))
    assert frames_of(near) == frames_of(exact)
    harmless = (victim, harm) in (("index.json", "gone"), ("segment-", "gone"))
    # A flipped bit of the pointer may be one that changes nothing, or names a codebook that is not there.
    if not harmless and (victim, harm) != ("index.json", "flip"):
        assert near.approximate is not None
        assert "hybrid compact" in (near.approximate.problem or "")
        damaged = [finding.problem or "" for finding in verify_archive(filled) if finding.state == "damaged"]
        assert len(damaged) == 1
        assert "hybrid compact" in damaged[0]
    update(filled)
    exact, near = both(filled, 2, 2)
    assert near.approximate is not None
    assert near.approximate.used
    assert near.approximate.problem is None
    assert share_found(exact, near) > 0.9


def test_damaged_vectors_are_named_not_believed(masters: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(masters["faiss"], tmp_path / "copy")
    with Archive.open(folder, create=False) as archive:
        _, near = both(archive, 3, 5)
        victim = archive.require(frames_of(near)[0][1])
        path = archive.store.path(victim.key)  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(bytes(data))
    with Archive.open(folder, create=False) as archive:
        exact, near = both(archive, 3, 5)
        assert set(near.failed) == {victim.video_id}
        assert frames_of(near) == frames_of(exact)
        assert near.approximate is not None
        assert "damaged" in (near.approximate.problem or "")


def test_a_stale_index_is_said_to_be_one(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexes.search.archive_search.STALE_FRAMES", 100)
    assert STALE_FRAMES > 100
    for number in range(900, 904):
        add_video(filled, number)
    exact, near = both(filled, 2, 2)
    assert near.approximate is not None
    assert "out of date" in (near.approximate.problem or "")
    assert share_found(exact, near) > 0.9


def test_samples_of_a_held_frame_count_once(fresh: Archive) -> None:
    fill(fresh, 40, hold=2)
    update(fresh)
    for seed in range(8):
        exact, near = both(fresh, seed, 2)
        assert near.approximate is not None
        assert near.approximate.used
        assert frames_of(near) == frames_of(exact)


def test_an_update_that_fails_half_way_goes_on_where_it_was(
    fresh: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fresh, VIDEOS)
    with Archive.open(shutil.copytree(fresh.folder, tmp_path / "copy"), create=False) as copy:
        update(copy)
        whole = contents(copy)
    import indexes.ann.files as files

    write = files.write_atomically
    for step in range(4):
        left = [step]

        def failing(path: Path, data: bytes, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                (path.parent / f".{path.name}.tmp-killed").write_bytes(data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            write(path, data)

        monkeypatch.setattr(files, "write_atomically", failing)
        with pytest.raises(Exception, match="No space left"):
            update(fresh)
        exact, near = both(fresh, step, 2)
        assert share_found(exact, near) > 0.9
    monkeypatch.setattr(files, "write_atomically", write)
    update(fresh)
    assert contents(fresh) == whole


def contents(archive: Archive) -> dict[str, bytes]:
    """Every file of the approximate index."""
    folder = ApproximateFiles(archive.folder, DIMENSION).folder
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_grown_archive_gets_a_new_codebook_by_compacting(fresh: Archive) -> None:
    fill(fresh, 8)
    assert update(fresh, renew=True).trained
    for number in range(8, 66):
        add_video(fresh, number)
    assert not update(fresh).trained
    done = update(fresh, renew=True)
    assert done.trained
    assert done.segments_removed
    assert len([name for name in contents(fresh) if name.startswith("codebook-")]) == 1
    assert share_found(*both(fresh, 1, 2)) > 0.9


def test_small_archives_get_none(fresh: Archive) -> None:
    fill(fresh, 3)
    assert update_approximate(fresh) == []
    assert both(fresh, 1, 5)[1].approximate is None
    assert not (fresh.folder / "approximate").exists()


def test_stats_report_the_recall(filled: Archive) -> None:
    bare = archive_stats(filled).approximate
    assert [(found.dimension, found.queries, found.recall) for found in bare] == [(DIMENSION, 0, None)]
    store_queries(filled, filled.require(video_id(0)), np.stack([query_of(seed) for seed in range(3)]))
    stock = archive_stats(filled)
    assert stock.search == "approximate"
    (found,) = stock.approximate
    assert found.queries == 3
    assert found.recall is not None
    assert found.frames == VIDEOS * FRAMES >= found.covered_frames > 0
    assert found.units > 0
    assert archive_stats(filled).approximate == (found,)  # measured once, times included
    assert stock.bytes["approximate"] > 0
    add_video(filled, 901)
    assert archive_stats(filled).approximate != (found,)


def test_without_a_usable_gpu_the_processor_scans_and_says_why(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", no_memory, raising=False)
    exact, near = both(filled, 1, 2)
    assert near.approximate is not None
    assert near.approximate.device == "cpu (FAISS could not use the GPU: RuntimeError: out of memory)"
    assert share_found(exact, near) > 0.9


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 120), seed=st.integers(0, 10_000), hold=st.integers(1, 30))
def test_units_cover_a_video_and_keep_held_frames_together(count: int, seed: int, hold: int) -> None:
    vectors = video_vectors(count, seed, hold=hold)
    units = cut_units(vectors)
    edges = [*units.starts.tolist(), count]
    assert edges[0] == 0
    assert edges == sorted(set(edges))
    for first, end, mean in zip(edges, edges[1:], units.means, strict=False):
        part = vectors[first:end]
        different = part[np.concatenate(([True], (part[1:] != part[:-1]).any(axis=1)))]
        assert len(different) <= MOST_FRAMES
        np.testing.assert_allclose(mean, different.mean(axis=0), atol=1e-5)
        assert end == count or (vectors[end] != vectors[end - 1]).any()


@pytest.mark.parametrize("dimension", [7, 16, 513, 768])
def test_a_scan_agrees_with_what_its_codes_stand_for(dimension: int) -> None:
    vectors = unit_vectors(300, dimension, 1)
    book = train_codebook(vectors)
    np.testing.assert_array_equal(book.centroids, train_codebook(vectors).centroids)
    codes = encode(book, vectors)
    assert codes.shape == (300, book.code_bytes)
    query, scan = unit_vectors(1, dimension, 2)[0], build_scan(book, codes)
    scores, rows = scan.search(pad_query(scan, query), 300)
    meant = decode(book, codes) @ query
    assert sorted(rows[0].tolist()) == list(range(300))
    np.testing.assert_allclose(scores[0], meant[rows[0]], atol=0.02 * max(1.0, float(np.abs(meant).max())))
    # The codes say something: what they stand for is near to what they were made of.
    assert np.einsum("ij,ij->i", decode(book, codes), vectors).mean() > 0.5


def test_videos_without_any_change_are_found_exactly(fresh: Archive) -> None:
    still = unit_vectors(1, DIMENSION, 1)
    for number in range(80):
        vectors = np.repeat(still, 40, axis=0)
        vectors[::2] = -still  # so that no two neighbours are of one unit
        fresh.commit(
            video_id(number), NewIndex(**{**some_index(number, count=40, dimension=DIMENSION), "vectors": vectors})
        )
    add_video(fresh, 900)
    update(fresh)
    exact, near = both(fresh, 1, 30)
    assert near.approximate is not None
    assert near.approximate.segments > 0
    assert frames_of(near) == frames_of(exact)


@pytest.mark.parametrize("name", STORES.names)
def test_scores_are_those_of_a_search_to_the_last_bit(shared: dict[str, Archive], name: str) -> None:
    archive = shared[name]
    committed = {manifest.key: manifest.committed for manifest in list(archive.manifests())[:9]}
    dice = np.random.default_rng(1)
    rows = {key: np.sort(dice.choice(40, int(dice.integers(1, 40)), replace=False)) for key in committed}
    for scored in archive.store.score(rows, committed, query_of(1)):
        hits = archive.store.search(scored.key, query_of(1), 40)
        known = dict(zip(hits.rows.tolist(), hits.similarities.tolist(), strict=True))
        assert scored.similarities is not None
        assert scored.similarities.tolist() == [known[row] for row in rows[scored.key].tolist()]


def test_what_another_process_adds_before_the_lock_is_free_is_kept(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one indexes and covers eight videos between this one's first look and its turn."""
    take, kept = Locks.take, {}

    @contextmanager
    def delayed(self: Locks, name: str, *, what: str, timeout: float = 0.0) -> Iterator[None]:
        monkeypatch.setattr(Locks, "take", take)
        with Archive.open(filled.folder, create=False) as other:
            for number in range(900, 908):
                add_video(other, number)
            assert update(other).segments_added == 2
        kept.update(contents(filled))
        with take(self, name, what=what, timeout=timeout):
            yield

    monkeypatch.setattr(Locks, "take", delayed)
    done = update(filled)
    assert (done.segments_added, done.segments_removed) == (0, 0)
    assert contents(filled) == kept


def test_sample_queries_that_another_process_cleans_away_are_written_again(
    filled: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock and deletes what has no name yet; queries are written without the lock."""
    files, replace, cleaned = ApproximateFiles(filled.folder, DIMENSION), os.replace, []

    def too_late(begun: Path, path: Path) -> None:
        if not cleaned:
            cleaned.append(path)
            files.clean()
        replace(begun, path)

    monkeypatch.setattr(os, "replace", too_late)
    files.write_queries("encoder", query_of(1)[None])
    assert cleaned
    found = files.queries("encoder")
    assert found is not None
    np.testing.assert_array_equal(found, query_of(1)[None])


class PretendedGpu:
    """Stands for ``faiss.GpuIndexFlatIP``: as strict as that is, and scans on the processor."""

    built = 0

    def __init__(self, resources: object, dimension: int, options: object) -> None:
        type(self).built += 1
        self.d = dimension
        self._index = faiss.IndexFlatIP(dimension)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        self._index.add(vectors)

    def search(self, query: npt.NDArray[np.float32], count: int) -> tuple[Any, Any]:
        if count > MOST_ON_GPU:
            raise RuntimeError(f"GPU index only supports min/max-K selection up to {MOST_ON_GPU}")
        return self._index.search(query, count)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[PretendedGpu]:
    """FAISS as with a GPU."""

    class Gpu(PretendedGpu):
        pass

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatConfig", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuIndexFlatIP", Gpu, raising=False)
    return Gpu


def test_a_gpu_is_asked_for_no_more_than_it_can_find(gpu: type[PretendedGpu]) -> None:
    vectors = unit_vectors(MOST_ON_GPU + 100, DIMENSION, 1)
    book = train_codebook(vectors)
    codes, query = encode(book, vectors), query_of(1)
    scan = Scan(book, codes)
    meant = decode(book, codes) @ query
    for count, device in [
        (MOST_ON_GPU, "cuda:0"),
        (MOST_ON_GPU + 1, "cpu (FAISS finds at most 2048 on a GPU; 2049 were requested)"),
        (10, "cuda:0"),
    ]:
        scores, rows = scan.search(query, count)
        assert (len(rows), scan.device) == (count, device)
        np.testing.assert_allclose(scores, meant[rows], atol=0.02 * float(np.abs(meant).max()))
    assert gpu.built == 1


@pytest.mark.parametrize(("most", "deviations", "device"), [(12, 0.0, "cuda:0"), (4, 1e9, "cpu (FAISS finds at most")])
def test_a_gpu_answers_what_it_can_find_enough_for(
    filled: Archive,
    gpu: type[PretendedGpu],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    deviations: float,
    device: str,
) -> None:
    monkeypatch.setattr(code_scan, "MOST_ON_GPU", most)
    manifests, query = list(filled.manifests()), query_of(3)
    params = SearchParams(units=2, most_units=20, units_per_frame=0, most_units_per_frame=0, deviations=deviations)
    found = search_archive_vectors(filled, manifests, query, 5, params=params)
    assert found.approximate is not None
    assert found.approximate.device.startswith(device)
    assert gpu.built == 1
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    with Archive.open(filled.folder) as again:
        alone = search_archive_vectors(again, manifests, query, 5, params=params)
    assert alone.approximate is not None
    assert alone.approximate.device == "cpu"
    assert {video: hits.rows.tolist() for video, hits in found.hits.items()} == {
        video: hits.rows.tolist() for video, hits in alone.hits.items()
    }


def test_a_gpu_that_fails_in_a_search_is_done_without(
    filled: Archive, gpu: type[PretendedGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, near = both(filled, 1, 2)
    assert near.approximate is not None
    assert near.approximate.device == "cuda:0"
    assert share_found(exact, near) > 0.9

    def failing(self: PretendedGpu, query: object, count: int) -> None:
        raise AssertionError("CUDA error 700")

    monkeypatch.setattr(gpu, "search", failing)
    for _ in range(2):
        exact, near = both(filled, 1, 2)
        assert near.approximate is not None
        assert near.approximate.device == "cpu (FAISS could not use the GPU: AssertionError: CUDA error 700)"
        assert share_found(exact, near) > 0.9
    assert gpu.built == 1


@pytest.mark.parametrize("name", STORES.names)
def test_a_flip_in_a_compared_row_is_noticed_without_reading_the_rest(shared: dict[str, Archive], name: str) -> None:
    archive = shared[name]
    manifests = list(archive.manifests())[:5]
    committed = {manifest.key: manifest.committed for manifest in manifests}
    rows = {manifest.key: np.array([3, 4, 5, 9]) for manifest in manifests}
    lengths = np.array([3, 1])
    proofs = {}
    for manifest in manifests:
        stored = round_vectors(archive.read(manifest))
        proofs[manifest.key] = RunProofs(lengths, run_checksums(stored[rows[manifest.key]], np.array([0, 3])))
    other = manifests[2].key
    # As if a bit of the rows were another one: the checksum that was written down does not fit.
    proofs[other] = RunProofs(lengths, proofs[other].checksums ^ np.uint64(1))
    plain = {one.key: one.similarities for one in archive.store.score(rows, committed, query_of(1))}
    found = {one.key: one for one in archive.store.score(rows, committed, query_of(1), proofs=proofs)}
    for key, similarities in plain.items():
        assert similarities is not None
        if key == other and name == "faiss":
            assert isinstance(found[key].error, IndexDamagedError)
            continue
        # LanceDB reads such a video as a whole then, and finds that it is sound.
        np.testing.assert_array_equal(found[key].similarities, similarities)


def test_segments_of_early_versions_have_no_checksums(masters: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(masters["faiss"], tmp_path / "copy")
    with open_archive(folder, create=False) as archive:
        exact, near = both(archive, 3, 5)
        files = ApproximateFiles(folder, DIMENSION)
        pointer = files.pointer()
        assert pointer is not None
        for segment_name in files.segments(pointer.codebook):
            segment = files.segment(segment_name)
            assert segment.checksums is not None
            files.write_segment(pointer.codebook, dataclasses.replace(segment, checksums=None))
            files.remove(segment_name)
    with open_archive(folder, create=False) as archive:
        _, without = both(archive, 3, 5)
        update_approximate(archive, from_frames=1, segment_frames=SEGMENT_FRAMES)
        made_anew = files.segments(pointer.codebook)
        assert made_anew
        assert all(files.segment(segment_name).checksums is not None for segment_name in made_anew)
    assert frames_of(without) == frames_of(near) == frames_of(exact)
