"""Vectors in LanceDB: one table for each dimension, all videos in it, found by a scalar index.

``frames_<D>.lance`` under the archive's folder, one row a frame: ``video_id``, ``generation``,
``row``, ``vector`` (``fixed_size_list<float16>[D]``), with a BTREE index on ``video_id``. The
dimension of a Lance column is fixed, so an encoder of another dimension gets a table of its own.

Why a search reads the video's vectors and ranks them here, instead of calling LanceDB's vector
search: LanceDB rounds the query to the column's type first (float16: similarities off by up to
2.6e-5 in a trial, so other rows near the end of the ranking), it says nothing of ties, and an exact search
with a filter was no faster: for one video of 3600 x 512 in a compacted table 6.2 ms, against 3.4 ms
for its rows and 2.4 ms for their conversion; in a table of 30 fragments 21 ms against 12 ms in all.
LanceDB must not be used across ``fork``: its threads do not survive it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lancedb
import numpy as np
import pyarrow as pa
from filelock import FileLock
from lancedb.index import BTree

from hybrid.errors import ArchiveError, ArchiveUnreachableError, IndexDamagedError
from hybrid.lru import LruCache
from hybrid.storage.atomic import NewFiles, make_folder, write_errors
from hybrid.values import Float32Array, Hits, IntArray
from indexes.format.layout import VectorKey, check_video_id, keys_of
from indexes.format.manifest import Committed
from indexes.stores.interface import DEFAULT_CACHE_BYTES, Found, Scored, VectorStore
from indexes.stores.lance_errors import lance_errors, line_of
from indexes.stores.lance_maintenance import FRAGMENTS_BEFORE_COMPACTION, REWRITTEN, WHY_GROWN, retention
from indexes.stores.lance_rows import filter_key, filter_video, schema, to_batch, to_vectors
from indexes.stores.lance_scan import scan_table
from indexes.stores.lance_score import FirstRows, score_rows
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
    similarities,
)

__all__ = ["LanceStore"]

ROWS_PER_LOOKUP = 12_000
"""Reading so many rows from one end of a table to the other takes as long as looking up one video in it
(3.6 million rows of 512 values: 2.7 s; one video of an hour among them: 10 ms)."""

_SCAN_ROWS = 16_384

_log = logging.getLogger(__name__)

_Stamp = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
"""What shows that tables are as they were when their rows were hashed."""

_Versions = tuple[tuple[int, int], ...]
"""Of each table: its dimension and its version."""


class _Cached(NamedTuple):
    """Vectors in memory, the versions of the tables that they were read from, and the hash that they have."""

    versions: _Versions
    vectors: Float32Array
    vectors_hash: str | None


class LanceStore(VectorStore):
    """See :class:`~indexes.stores.interface.VectorStore`."""

    name = "lancedb"
    damage_remedy = "if LanceDB still fails then, delete frames_*.lance there and index all videos again"

    def __init__(self, folder: Path) -> None:
        """Open the store; nothing is written before the first :meth:`write`.

        Args:
            folder: the archive's folder.
        """
        self.folder = folder
        self._name = str(folder)
        self._most_fragments = FRAGMENTS_BEFORE_COMPACTION
        self._storage_options: dict[str, str] | None = None
        self._database: Any = None
        self._tables: dict[int, Any] = {}
        self._first_rows: dict[int, FirstRows] = {}
        self._cache: LruCache[VectorKey, _Cached] = LruCache(DEFAULT_CACHE_BYTES)
        self._trusted: dict[VectorKey, tuple[_Stamp, str]] = {}
        self._new_files = NewFiles(rewritten=REWRITTEN)

    def write(self, key: VectorKey, vectors: Float32Array) -> str:
        rounded = round_vectors(vectors)
        vectors_hash = hash_vectors(rounded)
        with self._writing():
            held = self.count(key)
            if not held or not self._holds(key, vectors_hash):
                if held:
                    self._delete(key)
                table = self._create_table(rounded.shape[1])
                table.add(pa.Table.from_batches([to_batch(key, rounded)]))
                # LanceDB itself does not flush anything to disk.
                self._sync()
                self._compact(rounded.shape[1], table)
        return vectors_hash

    def search(self, key: VectorKey, query: Float32Array, top: int, *, vectors_hash: str | None = None) -> Hits:
        check_query(query, top)
        vectors = self._vectors(key, vectors_hash)
        check_length(len(query), key, vectors.shape[1])
        return rank(np.arange(len(vectors)), similarities(vectors, query), top)

    def read(self, key: VectorKey, *, vectors_hash: str | None = None) -> Float32Array:
        found: Float32Array = self._vectors(key, vectors_hash).copy()
        return found

    def search_many(
        self, committed: Mapping[VectorKey, Committed], query: Float32Array, top: int, *, threads: int = 1
    ) -> Iterator[Found]:
        check_query(query, top)
        if len(committed) * ROWS_PER_LOOKUP < self._rows_of(len(query)):
            yield from super().search_many(committed, query, top, threads=threads)
            return
        left = dict(committed)
        # A pass that fails (damage; a version that went meanwhile) is made up for by looking at each video.
        with contextlib.suppress(IndexDamagedError, ArchiveUnreachableError):
            stamp = self._stamp("all videos")
            trusted = self._trusted_at(stamp, committed)
            batches = self._batches(len(query))
            for found in scan_table(batches, committed, query, top, trusted=trusted, threads=threads):
                del left[found.key]
                if found.error is None:
                    self._trusted[found.key] = (stamp, committed[found.key].vectors_hash)
                yield found
        # What the scan did not meet is of another dimension, or missing: asking for it says which.
        yield from super().search_many(dict(sorted(left.items())), query, top)

    def score(
        self,
        rows: Mapping[VectorKey, IntArray],
        committed: Mapping[VectorKey, Committed],
        query: Float32Array,
        *,
        proofs: Mapping[VectorKey, RunProofs] | None = None,
    ) -> Iterator[Scored]:
        check_query(query, 1)
        known: dict[VectorKey, Float32Array] = {}
        # What is damaged is named by reading the videos one by one.
        with contextlib.suppress(IndexDamagedError, ArchiveUnreachableError), self._reading("some rows of many videos"):
            proven = proofs or {}
            whole = {
                *self._hash_videos({key: committed[key] for key in rows if key not in proven}, len(query)),
                *proven,
            }
            for dimension, table in self._all_tables():
                if dimension == len(query):
                    first = self._first_rows.setdefault(dimension, FirstRows())
                    requested = {key: some for key, some in rows.items() if key in whole}
                    known = score_rows(table, first.of(table), requested, query, proven)
        for key, some in rows.items():
            if key in known:
                yield Scored(key, known[key], None)
            else:  # moved meanwhile, damaged, or missing: reading the video says which
                yield from super().score({key: some}, committed, query)

    def _hash_videos(self, committed: Mapping[VectorKey, Committed], dimension: int) -> Collection[VectorKey]:
        """Those of some videos whose rows are what was committed; each is read once for every version of the table."""
        stamp = self._stamp("some videos")
        trusted = self._trusted_at(stamp, committed)
        left = {key: known for key, known in committed.items() if key not in trusted}
        if left:
            # One pass of the scan, with a query to which nothing is similar.
            nothing = np.zeros(dimension, dtype=np.float32)
            ids = ", ".join(f"'{check_video_id(key.video_id)}'" for key in left)
            batches = self._batches(dimension, where=f"video_id IN ({ids})")
            for found in scan_table(batches, left, nothing, 1, trusted=(), threads=1):
                if found.error is None:
                    self._trusted[found.key] = (stamp, left[found.key].vectors_hash)
        return self._trusted_at(stamp, committed)

    def _trusted_at(self, stamp: _Stamp, committed: Mapping[VectorKey, Committed]) -> Collection[VectorKey]:
        """Those whose rows were found to be what was committed, in these versions of the tables."""
        return {key for key, known in committed.items() if self._trusted.get(key) == (stamp, known.vectors_hash)}

    def compact(self) -> str | None:
        with self._writing():
            for dimension, table in self._all_tables():
                table.optimize(cleanup_older_than=retention(self._versions_folder(dimension)))
            self._sync()
        return WHY_GROWN

    def _rows_of(self, dimension: int) -> int:
        """How many rows the table of a dimension has."""
        with self._reading("the number of its rows"):
            return sum(int(table.count_rows()) for found, table in self._all_tables() if found == dimension)

    def _batches(self, dimension: int, *, where: str | None = None) -> Iterator[Any]:
        """The rows of the table of a dimension, all or some, in order of writing, some at a time."""
        with self._reading("many videos"):
            for found, table in self._all_tables():
                if found == dimension:
                    rows = table.search() if where is None else table.search().where(where)
                    columns = ["video_id", "generation", "row", "vector"]
                    yield from rows.select(columns).to_batches(batch_size=_SCAN_ROWS)

    def count(self, key: VectorKey) -> int:
        with self._reading(f"video {key.video_id}"):
            return sum(int(table.count_rows(filter_key(key))) for _, table in self._all_tables())

    def check(self, key: VectorKey, *vectors_hashes: str) -> tuple[int, int]:
        fresh = self._fresh()  # without what this one has in memory
        try:
            rounded = fresh._read(key)
            if not all(is_hash_of(rounded, known) for known in vectors_hashes):
                raise IndexDamagedError(f"{self._describe(key)}: the vectors are not what was written")
        finally:
            fresh.close()
        rows, values = rounded.shape
        return rows, values

    def remove(self, key: VectorKey) -> None:
        with self._writing():
            self._delete(key)
            self._sync()

    def keys(self, video_id: str | None = None) -> Iterator[VectorKey]:
        condition = "row = 0" if video_id is None else f"{filter_video(video_id)} AND row = 0"
        found: set[VectorKey] = set()
        with self._reading("the list of videos"):
            for _, table in self._all_tables():
                rows = table.search().where(condition).select(["video_id", "generation"]).to_arrow()
                found.update(keys_of(rows["video_id"].to_pylist(), rows["generation"].to_pylist()).values())
        yield from sorted(found)

    def close(self) -> None:
        self._tables.clear()
        self._first_rows.clear()
        self._cache.clear()
        self._trusted.clear()
        self._database = None

    def _fresh(self) -> LanceStore:
        """Another one on the same tables."""
        return LanceStore(self.folder)

    def _describe(self, key: VectorKey) -> str:
        return f"{self._name} (LanceDB, video {key.video_id}, generation {key.generation})"

    def _vectors(self, key: VectorKey, vectors_hash: str | None) -> Float32Array:
        """From memory, as long as no table has changed: a look at its version costs 0.2 ms, the rows 10."""
        versions = self._versions(f"video {key.video_id}")
        known = self._cache.get(key)
        if known is not None and known.versions == versions and vectors_hash in (None, known.vectors_hash):
            return known.vectors
        rounded = self._read(key)
        check_hash(rounded, vectors_hash, where=self._describe(key))
        vectors = rounded.astype(np.float32)
        self._cache.put(key, _Cached(versions, vectors, vectors_hash), vectors.nbytes)
        return vectors

    def _versions(self, what: str) -> _Versions:
        with self._reading(what):
            return tuple((dimension, int(table.version)) for dimension, table in self._all_tables())

    def _stamp(self, what: str) -> _Stamp:
        """The versions of all tables, and size and time of change of each of their files."""
        files = (path.stat() for path in sorted(self.folder.glob("frames_*.lance/data/*")))
        with self._reading(what), write_errors(what):
            return self._versions(what), tuple((status.st_size, status.st_mtime_ns) for status in files)

    def _read(self, key: VectorKey) -> Float16Array:
        with self._reading(f"video {key.video_id}"):
            for _, table in self._all_tables():
                rows = table.search().where(filter_key(key)).select(["row", "vector"]).to_arrow()
                if rows.num_rows:
                    break
            else:
                raise IndexDamagedError(f"{self._describe(key)}: the vectors of the video are missing")
            numbers = rows["row"].to_numpy()
            vectors = to_vectors(rows["vector"])
        if not (numbers == np.arange(len(numbers))).all():
            order = np.argsort(numbers, kind="stable")
            if not (numbers[order] == np.arange(len(numbers))).all():
                raise IndexDamagedError(f"{self._describe(key)}: rows are lost or doubled")
            vectors = vectors[order]
        return vectors

    def _holds(self, key: VectorKey, vectors_hash: str) -> bool:
        try:
            self.check(key, vectors_hash)
        except IndexDamagedError:
            return False
        return True

    def _delete(self, key: VectorKey) -> None:
        for _, table in self._all_tables():
            if table.count_rows(filter_key(key)):
                table.delete(filter_key(key))

    def _connect(self) -> Any:
        if self._database is None:
            # Zero: look at the newest version for every query, or other writers' videos stay unseen.
            self._database = lancedb.connect(
                self._name, read_consistency_interval=timedelta(0), storage_options=self._storage_options
            )
        return self._database

    def _all_tables(self) -> list[tuple[int, Any]]:
        """The tables on disk and their dimensions."""
        found: list[tuple[int, Any]] = []
        for dimension in self._dimensions():
            if dimension not in self._tables:
                table = self._open_table(f"frames_{dimension}")
                if table is None:
                    continue
                self._tables[dimension] = table
            found.append((dimension, self._tables[dimension]))
        return found

    def _open_table(self, name: str) -> Any:
        """A table that is there; None if its creation was not finished."""
        for tries_left in (1, 0):
            try:
                return self._connect().open_table(name)
            except ValueError as exc:
                if "not found" in str(exc):
                    if self._is_unmade(name):
                        return None
                    if tries_left:  # another process may have made it since
                        continue
                where = f"{self._name}/{name}.lance"
                raise IndexDamagedError(f"{where}: LanceDB cannot open this table: {line_of(exc)}") from exc
        raise AssertionError  # pragma: no cover (the last turn returns or raises)

    def _dimensions(self) -> list[int]:
        """Of the tables that are there, in the order of their names."""
        return [int(path.stem.removeprefix("frames_")) for path in sorted(self.folder.glob("frames_*.lance"))]

    def _is_unmade(self, name: str) -> bool:
        """A killed creation leaves a folder without a version: an empty table, for all that counts."""
        return not any((self.folder / f"{name}.lance").glob("_versions/*.manifest"))

    def _create_table(self, dimension: int) -> Any:
        self._all_tables()
        if dimension not in self._tables:
            self._tables[dimension] = self._connect().create_table(
                f"frames_{dimension}", schema=schema(dimension), exist_ok=True
            )
        table = self._tables[dimension]
        if not table.list_indices():
            table.create_index("video_id", config=BTree())
        return table

    def _compact(self, dimension: int, table: Any) -> None:
        """Merge small fragments, bring the scalar index up to date, drop old versions."""
        if table.stats()["fragment_stats"]["num_small_fragments"] < self._most_fragments:
            return
        try:
            table.optimize(cleanup_older_than=retention(self._versions_folder(dimension)))
            self._sync()
        except Exception as exc:
            # The vectors are stored; only the table is larger than it need be. The next write tries again.
            _log.warning("%s: LanceDB could not compact its table: %s", self._name, line_of(exc))

    def _versions_folder(self, dimension: int) -> Path:
        return self.folder / f"frames_{dimension}.lance" / "_versions"

    def _sync(self) -> None:
        for path in self.folder.glob("frames_*.lance"):
            self._new_files.flush(path)

    def _reading(self, what: str) -> AbstractContextManager[None]:
        return lance_errors(f"{self._name}: LanceDB cannot read {what}", IndexDamagedError)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Writers of one archive take turns: LanceDB refuses some writes that overlap with a compaction."""
        with contextlib.ExitStack() as stack:
            with write_errors(f"{self._name}: cannot be locked for writing"):
                make_folder(self.folder / "locks")
                stack.enter_context(FileLock(self.folder / "locks" / "frames.lance.lock"))
            with lance_errors(f"{self._name}: LanceDB cannot write", ArchiveError):
                yield


STORE = LanceStore
