"""What every vector store of both registries must do; numpy judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.errors import IndexDamagedError, InputError
from hybrid.registry import Registry
from hybrid.values import Hits
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores.interface import VectorStore
from indexes.stores.registry import REMOTE_STORES, STORES, StoreClass, open_store
from indexes.stores.vectors import checksum_vectors, hash_vectors, round_vectors
from tests.remote.conftest import credentials, make_bucket

Vectors = npt.NDArray[np.float32]

TIE = 1e-6
KEY = VectorKey("ab12" * 8, "01")

_ELSEWHERE = " in an object store"
REMOTE = tuple(name + _ELSEWHERE for name in REMOTE_STORES.names)
KINDS = (*STORES.names, *REMOTE)
Opener = Callable[[Path, str], VectorStore]

_numbers = count()


@pytest.fixture(scope="module")
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens the store of a kind that belongs to a folder."""
    buckets: dict[Path, str] = {}
    with pytest.MonkeyPatch.context() as environment:

        def open_kind(folder: Path, kind: str) -> VectorStore:
            if kind not in REMOTE:
                return open_store(folder, kind)
            endpoint = request.getfixturevalue("s3_endpoint")
            for name, value in credentials(endpoint).items():
                environment.setenv(name, value)
            if folder not in buckets:
                buckets[folder] = f"store-{next(_numbers)}"
                make_bucket(endpoint, buckets[folder])
            return open_store(folder, kind.removesuffix(_ELSEWHERE), uri=f"s3://{buckets[folder]}/my/videos")

        yield open_kind


@pytest.fixture(scope="module", params=KINDS)
def shared_store(
    request: pytest.FixtureRequest, opener: Opener, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VectorStore]:
    """One store for tests that write under keys of their own."""
    store = opener(tmp_path_factory.mktemp("store"), request.param)
    yield store
    store.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, opener: Opener, tmp_path: Path) -> Iterator[VectorStore]:
    """An empty store."""
    opened = opener(tmp_path, request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def both_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[VectorStore]]:
    """A store of each backend."""
    stores = [open_store(tmp_path_factory.mktemp(name), name) for name in STORES.names]
    yield stores
    for opened in stores:
        opened.close()


@pytest.mark.parametrize("stores", [STORES, REMOTE_STORES], ids=["local", "remote"])
def test_each_store_is_listed_under_its_own_name(stores: Registry[StoreClass]) -> None:
    assert [stores.find(name).name for name in stores.names] == list(stores.names)
    assert set(stores.names) <= set(STORES.names)  # a remote archive that is copied to a folder opens there


def test_a_name_that_is_not_listed_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no backend 'lancdb'; did you mean 'lancedb'\? Legal are faiss, lancedb"):
        open_store(tmp_path, "lancdb")


def new_key() -> VectorKey:
    """A key that no other test uses."""
    return VectorKey(f"{next(_numbers):032x}", "01")


def unit_vectors(number: int, dimension: int, seed: int) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((number, dimension)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def as_stored(vectors: Vectors) -> Vectors:
    return vectors.astype(np.float16).astype(np.float32)


def assert_exact(hits: Hits, vectors: Vectors, query: Vectors, top: int) -> None:
    """The hits are numpy's on the float16-rounded vectors, ties as the interface says."""
    stored = as_stored(vectors)
    truth = stored.astype(np.float64) @ query.astype(np.float64)
    expected = min(top, len(vectors))
    assert hits.rows.dtype == np.int64
    assert hits.similarities.dtype == np.float32
    assert len(set(hits.rows.tolist())) == len(hits) == len(hits.similarities) == expected
    np.testing.assert_allclose(hits.similarities, truth[hits.rows], rtol=0, atol=TIE)
    # Right up to ties: nothing that was left out is better than the last that was taken.
    assert truth[hits.rows].min() >= np.sort(truth)[::-1][expected - 1] - TIE
    falls = np.diff(hits.similarities)
    assert (falls <= 0).all()
    assert (np.diff(hits.rows)[falls == 0] > 0).all()
    # Of identical vectors the earliest rows are taken, in order.
    _, group = np.unique(stored, axis=0, return_inverse=True)
    for name in np.unique(group[hits.rows]):
        taken = hits.rows[group[hits.rows] == name]
        assert taken.tolist() == np.flatnonzero(group == name)[: len(taken)].tolist()


@pytest.mark.parametrize(
    ("number", "dimension", "top"),
    [(1, 1, 1), (1, 512, 256), (200, 512, 256), (3600, 512, 256), (700, 768, 1), (5, 3, 5)],
)
def test_search_is_exact(shared_store: VectorStore, number: int, dimension: int, top: int) -> None:
    vectors, key = unit_vectors(number, dimension, 1), new_key()
    query = unit_vectors(1, dimension, 2)[0]
    shared_store.write(key, vectors)
    assert_exact(shared_store.search(key, query, top), vectors, query, top)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Vectors, Vectors, int]:
    """Vectors in which many rows are the same or nearly so, a query, and how many are wanted."""
    dimension = draw(st.sampled_from([2, 8, 33]))
    pool = unit_vectors(draw(st.integers(1, 6)), dimension, draw(st.integers(0, 2**16)))
    number = draw(st.integers(1, 60))
    choice = draw(st.lists(st.integers(0, len(pool) - 1), min_size=number, max_size=number))
    vectors = pool[choice]
    if draw(st.booleans()):  # near ties: differences in the last float16 digits
        vectors = vectors * (1 + np.random.default_rng(0).integers(-2, 3, (number, 1)) / 2048).astype(np.float32)
    query = draw(st.sampled_from([pool[0], unit_vectors(1, dimension, 99)[0], np.zeros(dimension, dtype=np.float32)]))
    return vectors.astype(np.float32), query, draw(st.integers(1, number + 5))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(question=questions())
def test_backends_agree_with_numpy_and_each_other(
    both_stores: list[VectorStore], question: tuple[Vectors, Vectors, int]
) -> None:
    vectors, query, top = question
    key = new_key()
    found = []
    for store in both_stores:
        store.write(key, vectors)
        found.append(store.search(key, query, top))
        assert_exact(found[-1], vectors, query, top)
        store.remove(key)
    np.testing.assert_allclose(found[0].similarities, found[1].similarities, rtol=0, atol=TIE)
    truth = as_stored(vectors) @ query
    np.testing.assert_allclose(truth[found[0].rows], truth[found[1].rows], rtol=0, atol=TIE)


@pytest.mark.parametrize(
    ("backend", "videos"),
    [*((name, count) for name in STORES.names for count in (3, 70)), *((name, 3) for name in REMOTE)],
)
def test_searching_many_is_searching_each(opener: Opener, tmp_path: Path, videos: int, backend: str) -> None:
    store = opener(tmp_path, backend)
    keys = [VectorKey(f"{number:032x}", "01") for number in range(videos)]
    known = {}
    for number, key in enumerate(keys):
        rows = 1 + number % 5
        known[key] = Committed(store.write(key, unit_vectors(rows, 16, number)), rows)
    store.write(VectorKey("ffff" * 8, "01"), unit_vectors(3, 24, 0))
    store.write(VectorKey("0000" * 8, "02"), unit_vectors(3, 16, 0))
    query = unit_vectors(1, 16, 999)[0]
    each = {key: store.search(key, query, 4) for key in keys}
    store.close()
    for threads in (1, 3):
        store = opener(tmp_path, backend)
        for _ in range(2):  # the second time from whatever is kept
            found = {key: (hits, error) for key, hits, error in store.search_many(known, query, 4, threads=threads)}
            assert sorted(found) == keys
            for key in keys:
                hits, error = found[key]
                assert error is None
                assert hits.rows.tolist() == each[key].rows.tolist()
                np.testing.assert_allclose(hits.similarities, each[key].similarities, rtol=0, atol=TIE)
        before = each[keys[1]]
        known[keys[1]] = Committed(store.write(keys[1], unit_vectors(6, 16, 500 + threads)), 6)
        changed = next(found for found in store.search_many(known, query, 4, threads=threads) if found.key == keys[1])
        assert changed.hits is not None
        each[keys[1]] = store.search(keys[1], query, 4)
        assert changed.hits.rows.tolist() == each[keys[1]].rows.tolist()
        assert changed.hits.similarities.tolist() != before.similarities.tolist()
        store.close()


@pytest.mark.parametrize("videos", [2, 20])
def test_of_many_one_that_is_gone_is_said_to_be(store: VectorStore, videos: int) -> None:
    keys = [VectorKey(f"{number:032x}", "01") for number in range(videos)]
    known = {key: Committed(store.write(key, unit_vectors(5, 16, 0)), 5) for key in keys}
    store.remove(keys[-1])
    found = {key: error for key, _, error in store.search_many(known, unit_vectors(1, 16, 1)[0], 3)}
    assert isinstance(found.pop(keys[-1]), IndexDamagedError)
    assert set(found.values()) == {None}
    assert list(store.search_many({}, unit_vectors(1, 16, 1)[0], 3)) == []


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("videos", [2, 40])
def test_of_many_one_whose_vectors_are_others_is_named(store: VectorStore, videos: int, quick: bool) -> None:
    """Whether it would be among the best or not, and for rows that are asked for one by one as well."""
    known, query = {}, unit_vectors(1, 16, 1)[0]
    for number in range(videos):
        key, vectors = VectorKey(f"{number:032x}", "01"), unit_vectors(5, 16, number)
        returned = store.write(key, vectors)
        known[key] = Committed(checksum_vectors(round_vectors(vectors)) if quick else returned, 5)
    other = list(known)[videos // 2]
    for change in (unit_vectors(5, 16, 999), unit_vectors(4, 16, videos // 2)):
        assert all(error is None for key, _, error in store.search_many(known, query, 3) if key != other)
        store.write(other, change)
        for _ in range(2):
            found = {key: error for key, _, error in store.search_many(known, query, 3)}
            assert isinstance(found.pop(other), IndexDamagedError)
            assert set(found.values()) == {None}
            rows = {key: np.array([1, 3]) for key in known}
            scored = {key: error for key, _, error in store.score(rows, known, query)}
            assert isinstance(scored.pop(other), IndexDamagedError)
            assert set(scored.values()) == {None}


def test_compacting_keeps_everything(store: VectorStore) -> None:
    keys = [VectorKey(f"{number:032x}", "01") for number in range(5)]
    hashes = [store.write(key, unit_vectors(7, 16, number)) for number, key in enumerate(keys)]
    store.remove(keys[0])
    store.compact()
    for key, digest in zip(keys[1:], hashes[1:], strict=True):
        store.check(key, digest)
    assert list(store.keys()) == keys[1:]


def test_a_held_frame_gives_its_earliest_rows(shared_store: VectorStore) -> None:
    vectors, key = np.repeat(unit_vectors(3, 512, 5), 700, axis=0), new_key()
    shared_store.write(key, vectors)
    hits = shared_store.search(key, vectors[1000], 256)
    assert hits.rows.tolist() == list(range(700, 956))


def test_identical_vectors_at_any_place_have_identical_similarities(shared_store: VectorStore) -> None:
    # Vector units work on blocks of rows; the rows of the last, incomplete block must not differ.
    vectors, key = unit_vectors(1001, 67, 7), new_key()
    vectors[[0, 3, 500, 997, 998, 999, 1000]] = vectors[123]
    shared_store.write(key, vectors)
    hits = shared_store.search(key, vectors[123], 8)
    assert hits.rows.tolist() == [0, 3, 123, 500, 997, 998, 999, 1000]
    assert len(set(hits.similarities.tolist())) == 1


def test_more_rows_than_any_batch(shared_store: VectorStore) -> None:
    vectors, key = unit_vectors(20_000, 8, 11), new_key()
    query = unit_vectors(1, 8, 12)[0]
    shared_store.write(key, vectors)
    assert shared_store.count(key) == 20_000
    assert_exact(shared_store.search(key, query, 20_001), vectors, query, 20_001)


def test_read_gives_the_rounded_vectors_in_order(shared_store: VectorStore) -> None:
    vectors, key = unit_vectors(300, 512, 3), new_key()
    returned = shared_store.write(key, vectors)
    read = shared_store.read(key)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, as_stored(vectors))
    assert returned == hash_vectors(round_vectors(vectors))
    shared_store.check(key, returned)


def test_tiny_values_and_negative_zero_survive(shared_store: VectorStore) -> None:
    vectors, key = np.array([[-0.0, 6e-8, 1.0], [0.0, 2**-15, -1.0]], dtype=np.float32), new_key()
    shared_store.check(key, shared_store.write(key, vectors))
    np.testing.assert_array_equal(shared_store.read(key).view(np.uint32), as_stored(vectors).view(np.uint32))


def test_videos_generations_and_dimensions_are_kept_apart(store: VectorStore) -> None:
    keys = [
        VectorKey("aa" * 16, "01"),
        VectorKey("aa" * 16, "02"),
        VectorKey("bb" * 16, "01"),
        VectorKey("cc" * 16, "01"),
    ]
    blocks = [unit_vectors(30, 16, 0), unit_vectors(20, 16, 1), unit_vectors(10, 16, 2), unit_vectors(5, 24, 3)]
    for key, block in zip(keys, blocks, strict=True):
        store.write(key, block)
    assert list(store.keys()) == keys
    assert list(store.keys("aa" * 16)) == keys[:2]
    assert list(store.keys("dd" * 16)) == []
    for key, block in zip(keys, blocks, strict=True):
        query = unit_vectors(1, block.shape[1], 9)[0]
        assert store.count(key) == len(block)
        assert_exact(store.search(key, query, 50), block, query, 50)
    store.remove(keys[0])
    assert list(store.keys()) == keys[1:]
    np.testing.assert_array_equal(store.read(keys[1]), as_stored(blocks[1]))


def test_writing_again_replaces_also_with_another_length_and_dimension(store: VectorStore) -> None:
    store.write(KEY, unit_vectors(30, 16, 0))
    store.search(KEY, unit_vectors(1, 16, 1)[0], 3)  # so that it is in whatever cache there is
    for block in (unit_vectors(12, 16, 1), unit_vectors(12, 16, 2), unit_vectors(7, 24, 2)):
        returned = store.write(KEY, block)
        assert store.count(KEY) == len(block)
        np.testing.assert_array_equal(store.read(KEY), as_stored(block))
        store.check(KEY, returned)
        query = unit_vectors(1, block.shape[1], 3)[0]
        assert_exact(store.search(KEY, query, 5), block, query, 5)
    assert list(store.keys()) == [KEY]


def test_writing_the_same_again_changes_nothing(store: VectorStore) -> None:
    block = unit_vectors(12, 16, 1)
    assert store.write(KEY, block) == store.write(KEY, block)
    assert store.count(KEY) == 12
    np.testing.assert_array_equal(store.read(KEY), as_stored(block))


@pytest.mark.parametrize("backend", KINDS)
def test_another_handle_sees_what_is_written_replaced_and_removed(opener: Opener, tmp_path: Path, backend: str) -> None:
    reader, writer = opener(tmp_path, backend), opener(tmp_path, backend)
    with pytest.raises(IndexDamagedError):
        reader.read(KEY)
    for seed in range(2):
        block = unit_vectors(12, 16, seed)
        writer.write(KEY, block)
        np.testing.assert_array_equal(reader.read(KEY), as_stored(block))
    writer.remove(KEY)
    assert reader.count(KEY) == 0
    assert list(reader.keys()) == []
    with pytest.raises(IndexDamagedError):
        reader.search(KEY, unit_vectors(1, 16, 1)[0], 3)
    reader.close()
    writer.close()


def test_what_is_not_there_is_said_to_be_gone(store: VectorStore) -> None:
    store.write(VectorKey("ab12" * 8, "02"), unit_vectors(3, 4, 0))
    store.remove(KEY)
    assert store.count(KEY) == 0
    for attempt in (
        lambda: store.read(KEY),
        lambda: store.search(KEY, unit_vectors(1, 4, 0)[0], 1),
        lambda: store.check(KEY, "00"),
    ):
        with pytest.raises(IndexDamagedError):
            attempt()


def test_check_notices_other_vectors(store: VectorStore) -> None:
    returned = store.write(KEY, unit_vectors(12, 16, 1))
    changed = unit_vectors(12, 16, 1)
    changed[11, 15] += np.float32(0.01)
    store.write(KEY, changed)
    with pytest.raises(IndexDamagedError, match="not what was written"):
        store.check(KEY, returned)


@pytest.mark.parametrize(
    ("vectors", "text"),
    [
        (np.zeros((0, 4), dtype=np.float32), r"float32 \[0, 4\]"),
        (np.zeros((4, 0), dtype=np.float32), "at least 1"),
        (np.zeros(4, dtype=np.float32), r"float32 \[4\]"),
        (np.zeros((2, 4), dtype=np.float64), "float64"),
        (np.array([[0, 0], [0, np.nan]], dtype=np.float32), "row 1"),
        (np.array([[0, 1e6]], dtype=np.float32), "not finite as float16"),
    ],
)
def test_vectors_that_are_not_legal(store: VectorStore, vectors: Vectors, text: str) -> None:
    with pytest.raises(InputError, match=text):
        store.write(KEY, vectors)
    assert list(store.keys()) == []


@pytest.mark.parametrize(
    ("query", "top", "text"),
    [
        (np.zeros(4, dtype=np.float32), 0, "top is 0"),
        (np.zeros(4, dtype=np.float32), -1, "top is -1"),
        (np.zeros(5, dtype=np.float32), 1, "query has 5 values; the vectors of video (ab12){8} have 4"),
        (np.zeros((1, 4), dtype=np.float32), 1, r"\[1, 4\]"),
        (np.zeros(4, dtype=np.float64), 1, "float64"),
        (np.full(4, np.nan, dtype=np.float32), 1, "not finite"),
    ],
)
def test_queries_that_are_not_legal(shared_store: VectorStore, query: Vectors, top: int, text: str) -> None:
    shared_store.write(KEY, unit_vectors(3, 4, 0))
    with pytest.raises(InputError, match=text):
        shared_store.search(KEY, query, top)


@pytest.mark.parametrize(
    ("video_id", "generation"),
    [
        ("", "01"),
        ("ab" * 15, "01"),
        ("ab" * 17, "01"),
        ("AB" * 16, "01"),
        ("../" + "0" * 29, "01"),
        ("ab" * 16, "1' OR '1'='1"),
    ],
)
def test_keys_that_are_not_legal(video_id: str, generation: str) -> None:
    with pytest.raises(InputError, match="hexadecimal"):
        VectorKey(video_id, generation)


def test_close_may_be_called_twice_and_the_store_used_after_it(store: VectorStore) -> None:
    store.write(KEY, unit_vectors(3, 4, 0))
    store.close()
    store.close()
    assert store.count(KEY) == 3


@pytest.mark.parametrize("kind", ["what write returned", "checksum"])
def test_other_vectors_than_were_written_are_no_answer(store: VectorStore, kind: str) -> None:
    block, other = unit_vectors(12, 16, 1), unit_vectors(12, 16, 2)
    query = unit_vectors(1, 16, 3)[0]
    returned = store.write(KEY, block)
    wanted = checksum_vectors(round_vectors(block)) if kind == "checksum" else returned
    assert store.check(KEY, returned, wanted) == (12, 16)
    store.write(VectorKey("ab" * 16, "02"), other)  # so that a store of one table has something else in it
    assert_exact(store.search(KEY, query, 5, vectors_hash=wanted), block, query, 5)
    # Also if they are in memory by now, and if nobody asked for a comparison before.
    store.write(KEY, other)
    store.search(KEY, query, 5)
    for look in (
        lambda: store.search(KEY, query, 5, vectors_hash=wanted),
        lambda: store.read(KEY, vectors_hash=wanted),
    ):
        with pytest.raises(IndexDamagedError, match="not what was written"):
            look()
    with pytest.raises(IndexDamagedError, match="not what was written"):
        store.check(KEY, store.write(KEY, other), wanted)
    np.testing.assert_array_equal(store.read(KEY), as_stored(other))


def test_what_a_caller_does_with_vectors_is_its_own(store: VectorStore) -> None:
    block = unit_vectors(12, 16, 1)
    wanted = store.write(KEY, block)
    store.read(KEY, vectors_hash=wanted)[:] = 0
    np.testing.assert_array_equal(store.read(KEY, vectors_hash=wanted), as_stored(block))
