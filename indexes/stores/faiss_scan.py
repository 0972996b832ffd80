"""Search the FAISS files of many videos one after another, mapped into memory and kept so.

For one video a file is read whole (:mod:`indexes.stores.faiss_store`). Over thousands of them that would
copy the archive into memory at every question; mapped, the system's page cache holds it once. When a file
is mapped it is compared with what was committed, once: hashing it reads it as the first search would. A
mapped file that is read for the first time comes in page by page, which was measured to be many
times slower than reading it (docs/format.md), so the system is told to read the files ahead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from hybrid.errors import IndexDamagedError
from hybrid.values import Hits
from indexes.format.layout import VectorKey
from indexes.format.manifest import Committed
from indexes.stores.interface import Found

__all__ = ["MappedFiles", "scan_files"]

_FILES_AT_ONCE = 32
"""How many files a thread takes at a time, and how far the system reads ahead of it."""

_MOST_MAPPED = 30_000
"""Linux allows a process 65,530 mappings by default."""

Stamp = tuple[int, int, int]


class _Mapped(NamedTuple):
    """An index, and the hash that it was found to have."""

    stamp: Stamp
    vectors_hash: str | None
    index: Any


class MappedFiles:
    """Indexes that are mapped into memory, by key. May be used from several threads."""

    def __init__(self, path_of: Callable[[VectorKey], str], open_mapped: Callable[[str, str | None], Any]) -> None:
        """Nothing is opened by this.

        Args:
            path_of: where the vectors of a key lie.
            open_mapped: opens such a file whose vectors must have a hash, or any; raises IndexDamagedError.
        """
        self._path_of = path_of
        self._open_mapped = open_mapped
        self._mapped: dict[VectorKey, _Mapped] = {}
        self._guard = threading.Lock()

    def take(self, key: VectorKey, vectors_hash: str | None) -> Any:
        """The index of a key, mapped; without a hash, whoever takes it compares what is read of it.

        Raises:
            IndexDamagedError: it is gone, cannot be read, or has another hash.
        """
        path = self._path_of(key)
        stamp = _stamp(path)
        known = self._mapped.get(key)
        if known is not None and known.stamp == stamp and vectors_hash in (None, known.vectors_hash):
            return known.index
        index = self._open_mapped(path, vectors_hash)
        with self._guard:
            if len(self._mapped) >= _MOST_MAPPED:
                del self._mapped[next(iter(self._mapped))]
            self._mapped[key] = _Mapped(stamp, vectors_hash, index)
        return index

    def read_ahead(self, keys: Sequence[VectorKey]) -> None:
        """Have the system read the files of these keys; those that are mapped were read before."""
        if not hasattr(os, "posix_fadvise"):
            return
        for key in keys:
            if key in self._mapped:
                continue
            try:
                handle = os.open(self._path_of(key), os.O_RDONLY)
            except OSError:
                continue  # taking it will say so
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)

    def forget(self, key: VectorKey) -> None:
        """Let go of one."""
        with self._guard:
            self._mapped.pop(key, None)

    def close(self) -> None:
        """Let go of all."""
        with self._guard:
            self._mapped.clear()


def scan_files(
    files: MappedFiles,
    committed: Mapping[VectorKey, Committed],
    search: Callable[[VectorKey, Any], Hits],
    *,
    threads: int,
) -> Iterator[Found]:
    """Search many files, each thread some at a time.

    Args:
        files: where they are mapped.
        committed: which, and what they are known by.
        search: searches one opened index.
        threads: at least 1.
    """
    keys = list(committed)
    blocks = [keys[start : start + _FILES_AT_ONCE] for start in range(0, len(keys), _FILES_AT_ONCE)]

    def run(place: int) -> list[Found]:
        if place == 0:
            files.read_ahead(blocks[0])
        if place + threads < len(blocks):
            files.read_ahead(blocks[place + threads])
        return [_one(files, key, committed[key].vectors_hash, search) for key in blocks[place]]

    if threads == 1 or len(blocks) < 2:
        for place in range(len(blocks)):
            yield from run(place)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="hybrid-scan") as pool:
        for found in pool.map(run, range(len(blocks))):
            yield from found


def _one(files: MappedFiles, key: VectorKey, vectors_hash: str, search: Callable[[VectorKey, Any], Hits]) -> Found:
    try:
        return Found(key, search(key, files.take(key, vectors_hash)), None)
    except IndexDamagedError as exc:
        return Found(key, None, exc)


def _stamp(path: str) -> Stamp:
    try:
        status = os.stat(path)
    except OSError as exc:
        raise IndexDamagedError(f"{path}: the vectors of the video cannot be read: {exc.strerror}") from exc
    return (status.st_ino, status.st_size, status.st_mtime_ns)
