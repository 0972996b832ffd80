"""Vectors as one FAISS file a video: exact inner product over float16 codes.

``videos/<video>/vectors-<generation>.faiss`` under the archive's folder, an ``IndexScalarQuantizer``
(QT_fp16, inner product) that any FAISS can read. Its bytes depend on the vectors alone. A file is
read whole, not mapped: mapping was measured to be many times slower on a cold file
(docs/format.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from hybrid.errors import ArchiveError, IndexDamagedError, first_line
from hybrid.lru import LruCache
from hybrid.storage.atomic import Stamp, file_stamp, remove_file, write_atomically
from hybrid.values import Float32Array, Hits, IntArray
from indexes.format.layout import VectorKey, check_video_id, files_like
from indexes.format.manifest import Committed
from indexes.stores.faiss_many import scan_files, score_rows
from indexes.stores.interface import DEFAULT_CACHE_BYTES, Found, Scored, VectorStore
from indexes.stores.vectors import (
    Float16Array,
    RunProofs,
    check_hash,
    check_length,
    check_query,
    hash_vectors,
    is_hash_of,
    rank,
    round_vectors,
)

__all__ = ["FaissStore"]

_PREFIX, _SUFFIX = "vectors-", ".faiss"

# Tag, dimension, number of vectors, two unused; trained, metric; then of the quantizer: type, two
# settings of no effect on float16, dimension, bytes a code, length of its table; bytes of all codes.
_HEADER = struct.Struct("<4siqqq?iiifqqqq")


_MOST_MAPPED = 30_000
"""Linux allows a process 65,530 mappings by default."""


class _Opened(NamedTuple):
    """An opened index, the state of its file, and the hash that its vectors were found to have."""

    stamp: Stamp
    vectors_hash: str | None
    index: Any


class OpenIndexes:
    """Opened FAISS files by key. Safe for several threads."""

    def __init__(self, folder: Path, limit: int, *, mapped: bool) -> None:
        """Nothing is opened by this.

        Args:
            folder: the archive's folder.
            limit: how many bytes all of them may have; of those that are mapped, how many there may be.
            mapped: whether files are mapped into memory instead of being read.
        """
        self._videos = str(folder / "videos")
        self._mapped = mapped
        self._cache: LruCache[VectorKey, _Opened] = LruCache(limit)
        self.forget = self._cache.remove
        self.clear = self._cache.clear

    def path(self, key: VectorKey) -> str:
        """Where the vectors of a key lie."""
        # Not by way of Path, which took longer than the rest of a look at a file.
        return f"{self._videos}/{key.video_id}/{_PREFIX}{key.generation}{_SUFFIX}"

    def open(self, key: VectorKey, vectors_hash: str | None = None) -> Any:
        """The index of a key; without a hash, the caller compares what is read of it.

        Raises:
            IndexDamagedError: it does not exist, cannot be read, or has another hash.
        """
        path = self.path(key)
        try:
            # The file of a key may be written anew (after damage), so a name alone proves nothing.
            stamp = file_stamp(path)
        except OSError as exc:
            raise IndexDamagedError(f"{path}: the vectors of the video cannot be read: {exc.strerror}") from exc
        known = self._cache.get(key)
        if known is not None and known.stamp == stamp:
            if vectors_hash in (None, known.vectors_hash):
                return known.index
            index = known.index
        else:
            index = _read_index(path, mapped=self._mapped)
        check_hash(_view(index), vectors_hash, where=path)
        self._cache.put(key, _Opened(stamp, vectors_hash, index), 1 if self._mapped else stamp[1])
        return index

    def read_ahead(self, keys: Sequence[VectorKey]) -> None:
        """Have the system read the files of these keys; those that are open were read before."""
        if not hasattr(os, "posix_fadvise"):
            return
        for key in keys:
            if key in self._cache:
                continue
            try:
                handle = os.open(self.path(key), os.O_RDONLY)
            except OSError:
                continue  # opening it will say so
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)


class FaissStore(VectorStore):
    """See :class:`~indexes.stores.interface.VectorStore`. May be used from several threads."""

    name = "faiss"

    def __init__(self, folder: Path, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """Open the store; nothing is written before the first :meth:`write`.

        Args:
            folder: the archive's folder.
            cache_bytes: how much memory the indexes kept open may take; the last one used is
                always kept.
        """
        self.folder = folder
        self._opened = OpenIndexes(folder, cache_bytes, mapped=False)
        self._mapped = OpenIndexes(folder, _MOST_MAPPED, mapped=True)

    def path(self, key: VectorKey) -> Path:
        """Where the vectors of a key lie."""
        return Path(self._opened.path(key))

    def write(self, key: VectorKey, vectors: Float32Array) -> str:
        rounded = round_vectors(vectors)
        write_atomically(self.path(key), _to_bytes(rounded))
        return hash_vectors(rounded)

    def search(self, key: VectorKey, query: Float32Array, top: int, *, vectors_hash: str | None = None) -> Hits:
        check_query(query, top)
        return self._search(key, self._opened.open(key, vectors_hash), query, top)

    def search_many(
        self, committed: Mapping[VectorKey, Committed], query: Float32Array, top: int, *, threads: int = 1
    ) -> Iterator[Found]:
        check_query(query, top)

        def search(key: VectorKey) -> Found:
            try:
                index = self._mapped.open(key, committed[key].vectors_hash)
                return Found(key, self._search(key, index, query, top), None)
            except IndexDamagedError as exc:
                return Found(key, None, exc)

        return scan_files(list(committed), search, self._mapped.read_ahead, threads=max(1, threads))

    def score(
        self,
        rows: Mapping[VectorKey, IntArray],
        committed: Mapping[VectorKey, Committed],
        query: Float32Array,
        *,
        proofs: Mapping[VectorKey, RunProofs] | None = None,
    ) -> Iterator[Scored]:
        check_query(query, 1)
        with _one_thread():
            yield from score_rows(self._mapped.open, rows, committed, query, proofs or {})

    def compact(self) -> None:
        """Nothing to do: each file is written whole, and replaced ones are deleted."""

    def _search(self, key: VectorKey, index: Any, query: Float32Array, top: int) -> Hits:
        check_length(len(query), key, index.d)
        count = index.ntotal
        # One more than asked for shows whether the last one has an equal: then FAISS's choice among
        # equals is arbitrary, and only the full list gives the earlier frames.
        count_found = min(top + 1, count)
        with _one_thread():
            found, rows = index.search(query[None], count_found)
            if count_found < count and found[0, -1] == found[0, -2]:
                found, rows = index.search(query[None], count)
        return rank(rows[0], found[0], top)

    def read(self, key: VectorKey, *, vectors_hash: str | None = None) -> Float32Array:
        return _view(self._opened.open(key, vectors_hash)).astype(np.float32)

    def count(self, key: VectorKey) -> int:
        if not self.path(key).exists():
            return 0
        return int(self._opened.open(key).ntotal)

    def check(self, key: VectorKey, *vectors_hashes: str) -> tuple[int, int]:
        path = self.path(key)
        try:
            stored = path.read_bytes()
        except OSError as exc:
            raise IndexDamagedError(f"{path}: cannot be read: {exc.strerror}") from exc
        index = _read_index(path)
        rounded = _view(index)
        # The header is not part of the hash; but the bytes follow from the vectors.
        if not all(is_hash_of(rounded, known) for known in vectors_hashes) or _to_bytes(rounded) != stored:
            raise IndexDamagedError(f"{path}: its content is not what was written")
        rows, values = rounded.shape
        return rows, values

    def remove(self, key: VectorKey) -> None:
        self._opened.forget(key)
        self._mapped.forget(key)
        remove_file(self.path(key))

    def keys(self, video_id: str | None = None) -> Iterator[VectorKey]:
        videos = self.folder / "videos"
        if video_id is not None:
            yield from self._keys_in(videos / check_video_id(video_id))
            return
        for folder in files_like(videos, "*"):
            # One folder that cannot be read does not hide the others; asking for its video raises the error.
            with suppress(IndexDamagedError):
                yield from self._keys_in(folder)

    def _keys_in(self, folder: Path) -> list[VectorKey]:
        return [
            VectorKey(folder.name, path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX))
            for path in files_like(folder, f"{_PREFIX}*{_SUFFIX}")
        ]

    def close(self) -> None:
        self._opened.clear()
        self._mapped.clear()


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS divides a search by queries. For a single one more threads do nothing but wait for a core.

    On a machine with a busy core that made a search of 0.15 ms one of 8 ms.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _to_bytes(rounded: Float16Array) -> bytes:
    """The file's content. FAISS's own rounding has nothing left to round, so the codes are our values."""
    index = faiss.IndexScalarQuantizer(rounded.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(rounded.astype(np.float32))
    data: bytes = faiss.serialize_index(index).tobytes()
    fault = _fault(data[: _HEADER.size], len(data))
    if fault:  # before anything is replaced by a file that no reader here would take
        raise ArchiveError(f"FAISS {faiss.__version__} writes another file format than hybrid reads: {fault}")
    return data


def _view(index: Any) -> Float16Array:
    """The vectors where they lie; good as long as the index is."""
    codes = faiss.rev_swig_ptr(index.codes.data(), index.codes.size())
    vectors: Float16Array = codes.view("<f2").reshape(index.ntotal, index.d)
    return vectors


def _read_index(path: str | Path, *, mapped: bool = False) -> Any:
    # Older FAISS cannot map the codes and reads them.
    flags = getattr(faiss, "IO_FLAG_MMAP_IFC", 0) if mapped else 0
    try:
        with open(path, "rb") as file:
            fault = _fault(file.read(_HEADER.size), os.fstat(file.fileno()).st_size)
        index = None if fault else faiss.read_index(str(path), flags)
    except (OSError, RuntimeError, TypeError, MemoryError) as exc:  # FAISS: RuntimeError; TypeError for odd names
        raise IndexDamagedError(f"{path}: cannot be read: {first_line(exc)}") from exc
    if fault:
        raise IndexDamagedError(f"{path}: not a whole FAISS index of float16 codes for inner product: {fault}")
    return index


def _fault(header: bytes, size_bytes: int) -> str | None:
    """What is wrong with a file that starts with ``header`` and is so long; None if it can be read.

    FAISS believes the sizes in a file: from a damaged one it would take any amount of memory, or
    search past the end of the codes.
    """
    if len(header) < _HEADER.size:
        return f"it has {size_bytes} bytes"
    values = _HEADER.unpack(header)
    tag, dimension, count = values[:3]
    if tag != b"IxSQ" or dimension < 1 or count < 1:
        return f"it begins with {header[:16]!r}"
    code_bytes = 2 * dimension
    expected = (
        *(True, faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16),
        *(dimension, code_bytes, 0, count * code_bytes),
    )
    found = (*values[5:8], *values[10:])
    if found != expected:
        return f"its header says {found}, which should be {expected}"
    if size_bytes != _HEADER.size + count * code_bytes:
        return f"it has {size_bytes} bytes, which should be {_HEADER.size + count * code_bytes}"
    return None


STORE = FaissStore
