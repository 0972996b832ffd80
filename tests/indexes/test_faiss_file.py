"""What is particular to the FAISS files: the memory of open ones, and their form."""

from __future__ import annotations

import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from archive_samples import unit_vectors

from hybrid.errors import ArchiveError, IndexDamagedError
from indexes.format.layout import VectorKey
from indexes.stores import faiss_store as faiss_file
from indexes.stores.faiss_store import FaissStore

QUERY = unit_vectors(1, 16, 9)[0]
KEYS = [VectorKey(f"{number:032x}", "01") for number in range(4)]


def filled(folder: Path, cache_bytes: int) -> FaissStore:
    store = FaissStore(folder, cache_bytes=cache_bytes)
    for seed, key in enumerate(KEYS):
        store.write(key, unit_vectors(100, 16, seed))
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    seen: list[str] = []
    original = faiss_file._read_index

    def counting(path: str | Path, *, mapped: bool = False) -> object:
        seen.append(Path(path).parent.name)
        return original(path, mapped=mapped)

    monkeypatch.setattr(faiss_file, "_read_index", counting)
    return seen


def test_open_indexes_are_kept_within_their_bytes(tmp_path: Path, reads: list[str]) -> None:
    one_file = 81 + 100 * 16 * 2
    store = filled(tmp_path, cache_bytes=2 * one_file)
    for number in (0, 0, 1, 0, 2, 0, 1):  # 2 puts out 1, which was used the longest time ago
        store.search(KEYS[number], QUERY, 3)
    assert reads == [KEYS[number].video_id for number in (0, 1, 2, 1)]
    small = filled(tmp_path, cache_bytes=0)
    reads.clear()
    for number in (0, 0, 1, 1):  # the last one is kept, however small the memory
        small.search(KEYS[number], QUERY, 3)
    assert reads == [KEYS[0].video_id, KEYS[1].video_id]


def test_a_rewritten_file_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    store, other = filled(tmp_path, 2**20), FaissStore(tmp_path)
    before = store.search(KEYS[0], QUERY, 3)
    other.write(KEYS[0], unit_vectors(100, 16, 50))
    after = store.search(KEYS[0], QUERY, 3)
    assert before.similarities.tolist() != after.similarities.tolist()
    assert len(reads) == 2


def test_plain_faiss_reads_the_file_and_its_bytes_depend_on_the_vectors_alone(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one", 0), filled(tmp_path / "two", 0)
    for seed, key in enumerate(KEYS):
        assert one.path(key).read_bytes() == two.path(key).read_bytes()
        index = faiss.read_index(str(one.path(key)))
        np.testing.assert_array_equal(
            index.reconstruct_n(0, 100), unit_vectors(100, 16, seed).astype(np.float16).astype(np.float32)
        )


@pytest.mark.parametrize("kind", ["Flat", "SQ8", "SQfp16"])
def test_other_faiss_indexes_under_our_name_are_refused(tmp_path: Path, kind: str) -> None:
    store = filled(tmp_path, 0)
    metric = faiss.METRIC_L2 if kind == "SQfp16" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(16, kind, metric)
    index.train(unit_vectors(100, 16, 0))
    index.add(unit_vectors(100, 16, 0))
    faiss.write_index(index, str(store.path(KEYS[0])))
    with pytest.raises(IndexDamagedError, match="not a whole FAISS index of float16 codes"):
        store.search(KEYS[0], QUERY, 3)


def test_a_faiss_that_writes_another_format_is_noticed_before_anything_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, 0)
    before = store.path(KEYS[0]).read_bytes()
    monkeypatch.setattr(faiss, "serialize_index", lambda _: np.frombuffer(b"IxS2" + before[4:], dtype=np.uint8))
    with pytest.raises(ArchiveError, match="another file format"):
        store.write(KEYS[0], unit_vectors(100, 16, 0))
    assert store.path(KEYS[0]).read_bytes() == before


def test_threads_search_and_rewrite_one_store(tmp_path: Path) -> None:
    store = filled(tmp_path, 2 * (81 + 100 * 16 * 2))
    truth = [store.search(key, QUERY, 5).rows.tolist() for key in KEYS]
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(60):
                place = (number + turn) % len(KEYS)
                if turn % 20 == number:
                    store.write(KEYS[place], unit_vectors(100, 16, place))
                if store.search(KEYS[place], QUERY, 5).rows.tolist() != truth[place]:
                    wrong.append((number, turn))
        except Exception as exc:
            wrong.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
