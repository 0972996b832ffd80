"""A worked example: a new vector store is one file and one line, and serves the whole engine."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid import Engine
from hybrid.errors import ArchiveFormatError
from indexes.maintenance.stats import archive_stats
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from indexes.stores.registry import STORES, open_store
from tests.contracts import test_vector_store as contract
from tests.demo_clip import write_demo_clip

QUESTION = "When can the green star be seen?"

THE_FILE = '''
"""Vectors as one NumPy file a video."""

import io

import numpy as np

from hybrid.errors import IndexDamagedError, InputError
from hybrid.storage.atomic import remove_file, write_atomically
from indexes.format.layout import VectorKey, check_video_id
from indexes.stores.interface import VectorStore
from indexes.stores.vectors import check_hash, check_query, hash_vectors, is_hash_of, rank, round_vectors, similarities


class NumpyStore(VectorStore):
    name = "toy"

    def __init__(self, folder, **options):
        self._videos = folder / "videos"

    def _path(self, key):
        return self._videos / key.video_id / f"vectors-{key.generation}.npy"

    def _load(self, key, vectors_hash=None):
        try:
            rounded = np.load(self._path(key))
        except (OSError, ValueError) as exc:
            raise IndexDamagedError(f"{self._path(key)}: cannot be read: {exc}") from exc
        check_hash(rounded, vectors_hash, where=str(self._path(key)))
        return rounded

    def write(self, key, vectors):
        rounded, buffer = round_vectors(vectors), io.BytesIO()
        np.save(buffer, rounded)
        write_atomically(self._path(key), buffer.getvalue())
        return hash_vectors(rounded)

    def search(self, key, query, top, *, vectors_hash=None):
        check_query(query, top)
        vectors = self.read(key, vectors_hash=vectors_hash)
        if vectors.shape[1] != len(query):
            text = f"query has {len(query)} values; the vectors of video {key.video_id} have {vectors.shape[1]}"
            raise InputError(text)
        return rank(np.arange(len(vectors)), similarities(vectors, query), top)

    def read(self, key, *, vectors_hash=None):
        return self._load(key, vectors_hash).astype(np.float32)

    def count(self, key):
        return len(self._load(key)) if self._path(key).exists() else 0

    def check(self, key, *vectors_hashes):
        rounded = self._load(key)
        for vectors_hash in vectors_hashes:
            check_hash(rounded, vectors_hash, where=str(self._path(key)))
        return rounded.shape

    def remove(self, key):
        remove_file(self._path(key))

    def keys(self, video_id=None):
        folder = "*" if video_id is None else check_video_id(video_id)
        for path in sorted(self._videos.glob(f"{folder}/vectors-*.npy")):
            yield VectorKey(path.parent.name, path.stem.removeprefix("vectors-"))

    def compact(self):
        return None

    def close(self):
        pass


STORE = NumpyStore
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a store that another package brings."""
    monkeypatch.setattr(STORES, "_modules", dict(STORES._modules))  # put back after the test
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "toy_store.py").write_text(THE_FILE)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    importlib.invalidate_caches()
    STORES.register("toy", "toy_store")  # the one line
    yield "toy"
    sys.modules.pop("toy_store", None)


def test_an_engine_indexes_answers_and_opens_again(toy: str, tmp_path: Path) -> None:
    demo_clip = write_demo_clip(tmp_path / "clip.mp4")
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu", backend=toy) as engine:
        assert engine.index(demo_clip).outcome == "indexed"
        answer = engine.ask(demo_clip, QUESTION, frames=4)
        assert len(answer.frames) == 4
        assert not answer.degraded
    assert [path.suffix for path in (tmp_path / "archive").glob("videos/*/vectors-*")] == [".npy"]
    with Engine.open(tmp_path / "archive", preset="tiny", device="cpu", create=False) as again:
        assert again.index(demo_clip).outcome == "unchanged"
        assert again.ask(demo_clip, QUESTION, frames=4).frames == answer.frames
        assert again.search(QUESTION).videos[0].video == str(demo_clip)
        assert [finding.state for finding in verify_archive(again.archive)] == ["sound"]
        stored = archive_stats(again.archive)
        assert (stored.backend, stored.bytes["vectors"] > 0, stored.bytes["other"] < 1000) == (toy, True, True)


def test_it_keeps_the_contract(toy: str, tmp_path: Path) -> None:
    names = [
        name for name, test in vars(contract).items() if name.startswith("test_") and not hasattr(test, "pytestmark")
    ]
    tests = [getattr(contract, name) for name in names]
    alone = [test for test in tests if list(inspect.signature(test).parameters) in (["store"], ["shared_store"])]
    assert len(alone) > 10
    for test in alone:
        store = open_store(tmp_path / test.__name__, toy)
        test(store)
        store.close()


def test_without_it_the_archive_says_what_is_lacking(toy: str, tmp_path: Path) -> None:
    open_archive(tmp_path / "archive", backend=toy).close()
    STORES._modules.pop(toy)
    with pytest.raises(ArchiveFormatError, match=r"no backend 'toy'; legal are faiss, lancedb; register it, or run"):
        open_archive(tmp_path / "archive")
