"""The reading half of an archive: no locks, at any time, beside any writer."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hybrid.errors import IndexDamagedError, IndexMismatchError, InputError, VideoNotIndexedError
from hybrid.lru import LruCache
from hybrid.values import Float32Array, Hits, Timeline
from indexes.archive.content_id import identify
from indexes.archive.feature_file import StoredFeatures, open_features, read_sound_list, stamp_of
from indexes.format.catalogue import CatalogueReader, stamp_of_manifest
from indexes.format.feature_list import FeatureList, FeatureSpec, frames_key
from indexes.format.layout import Layout, check_video_id, read_file
from indexes.format.manifest import IndexConfig, Manifest, differences, parse_manifest
from indexes.format.timeline_file import timeline_from_bytes, timeline_hash
from indexes.stores.interface import VectorStore
from indexes.stores.registry import open_store

if TYPE_CHECKING:
    from indexes.ann.index import ApproximateIndex

__all__ = ["ArchiveReader"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MOST_OPEN_FEATURES = 16


class ArchiveReader:
    """What can be asked of an archive. Opened as an :class:`~indexes.archive.writer.Archive`.

    Where a method takes ``video``, that is a content id, or a :class:`~indexes.format.manifest.Manifest`
    to hold on to one generation over several calls while another process may replace the index.

    Attributes:
        uri: what opens the archive, as text: its folder, or the URI of a remote one.
        folder: where its files lie; of a remote one, where this machine keeps copies of them.
        backend: the name of its vector store.
    """

    def __init__(self, folder: Path, backend: str, *, uri: str | None = None) -> None:
        """Not for callers: :meth:`indexes.archive.writer.Archive.open` checks the folder."""
        self.uri = str(folder) if uri is None else uri
        self.folder = folder
        self.backend = backend
        self._layout = Layout(folder)
        self._features: LruCache[Path, StoredFeatures] = LruCache(_MOST_OPEN_FEATURES, on_drop=StoredFeatures.close)
        self._read_here: dict[str, tuple[str, str]] = {}
        self._catalogue = CatalogueReader(self._layout)
        self._approximate: dict[int, ApproximateIndex] = {}

    @cached_property
    def store(self) -> VectorStore:
        """The vectors. Opened when first used, because importing a backend takes its time.

        Raises:
            MissingDependencyError: the backend's package is not installed.
        """
        return open_store(self.folder, self.backend)

    def has_failures(self) -> bool:
        """Whether there are records of videos that could not be indexed (see :mod:`indexes.format.failures`)."""
        return self._layout.failed.is_dir()

    def holds(self, video_id: str) -> bool:
        """Whether there is an index of a video, as far as shows without reading it (or asking an object store)."""
        return self._layout.manifest(check_video_id(video_id)).exists()

    def identify(self, path: str | Path, *, from_cache: bool = True) -> str:
        """The content id of a video; an unchanged one is not read twice.

        See :func:`indexes.archive.content_id.identify`.

        Args:
            path: the video.
            from_cache: whether an id that another process wrote down is good enough.

        Raises:
            VideoOpenError: there is no such path, or it cannot be read.
        """
        return identify(path, cache=self._layout.known_paths, read_here=self._read_here, from_cache=from_cache)

    def manifest(self, video_id: str) -> Manifest | None:
        """What is committed of a video; None if it is not indexed.

        Raises:
            IndexDamagedError: there is a manifest, but it cannot be read.
        """
        path = self._layout.manifest(video_id)
        data = read_file(path)
        return None if data is None else self._parsed(video_id, data, where=str(path))

    def readable_manifest(self, video_id: str) -> Manifest | None:
        """The manifest of a video; a damaged one counts as none, so that indexing the video mends it."""
        try:
            return self.manifest(video_id)
        except IndexDamagedError:
            return None

    def manifests(self, *, on_damage: Callable[[str, IndexDamagedError], None] | None = None) -> Iterator[Manifest]:
        """The manifests of all indexed videos, in order of their ids.

        Args:
            on_damage: called with the video id for each manifest that cannot be read, which is
                then passed over; by default a warning is logged.
        """
        self._catalogue.refresh()
        unsure = set(os.listdir(self._layout.pending)) if self._layout.pending.is_dir() else set()
        for name in self._layout.video_ids():
            try:
                # A manifest that is being replaced has to be looked at itself.
                manifest = (None if name in unsure else self._known(name)) or self.manifest(name)
            except IndexDamagedError as exc:
                if on_damage is None:
                    _log.warning("%s", exc)
                else:
                    on_damage(name, exc)
                continue
            if manifest is not None:
                yield manifest

    def _known(self, video_id: str) -> Manifest | None:
        """The manifest, if the catalogue holds it as it is now."""
        stamp = stamp_of_manifest(f"{self._layout.videos}/{video_id}/manifest.json")
        return None if stamp is None else self._catalogue.known(video_id, stamp)

    def require(self, video_id: str, config: IndexConfig | None = None) -> Manifest:
        """The manifest of a video that must be indexed, with the given configuration if there is one.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexMismatchError: it is indexed with another configuration; the text names what differs.
            IndexDamagedError: its manifest cannot be read.
        """
        manifest = self.manifest(video_id)
        if manifest is None:
            raise VideoNotIndexedError(
                f"archive {self.uri} holds no index of video {video_id}; run: hybrid index VIDEO --archive {self.uri}"
            )
        if config is not None and manifest.fingerprint != config.fingerprint:
            changed = "; ".join(differences(manifest.config, config)) or "only the format version"
            raise IndexMismatchError(
                f"the index of {manifest.source.path} was made with another configuration ({changed}); "
                f"ask with the one it was made with, or run: hybrid index {manifest.source.path} "
                f"--archive {self.uri}"
            )
        return manifest

    def up_to_date(self, video_id: str, config: IndexConfig) -> Manifest | None:
        """The manifest, if there is nothing to do for this video and configuration; else None.

        Looks whether timeline and vectors are there and of the right length, so that indexing
        again also mends an index that lost files. :meth:`verify` looks at every byte.
        """
        try:
            manifest = self.manifest(video_id)
            if manifest is None or manifest.fingerprint != config.fingerprint:
                return None
            if len(self.timeline(manifest)) != manifest.frames or self.store.count(manifest.key) != manifest.frames:
                return None
        except IndexDamagedError:
            return None
        return manifest

    def timeline(self, video: str | Manifest) -> Timeline:
        """The sampled frames of a video: entry ``i`` is row ``i`` of its vectors.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexDamagedError: the file is missing or not what was written.
        """
        return self._with_current(video, self._read_timeline)

    def timeline_file(self, video: str | Manifest) -> bytes:
        """What the file with a video's timeline holds.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexDamagedError: the file is missing or cannot be read.
        """
        return self._with_current(video, self._timeline_bytes)

    def search(self, video: str | Manifest, query: Float32Array, top: int) -> Hits:
        """The ``top`` frames of one video that are nearest to a query, exactly, best first.

        Args:
            video: which video.
            query: float32 [D] unit vector.
            top: at least 1; more than there are frames gives all of them.

        Raises:
            InputError: the query does not fit the vectors, or ``top`` is below 1.
            VideoNotIndexedError: the video is not indexed.
            IndexDamagedError: the vectors are missing, cannot be read, or are not what was written.
        """

        def action(manifest: Manifest) -> Hits:
            if query.shape != (manifest.dimension,):
                raise InputError(
                    f"query is {query.dtype} {list(query.shape)}; the vectors of video {manifest.video_id} "
                    f"have {manifest.dimension} values: was it indexed with another encoder?"
                )
            return self.store.search(manifest.key, query, top, vectors_hash=manifest.quickest_hash)

        return self._with_current(video, action)

    def read(self, video: str | Manifest) -> Float32Array:
        """All vectors of a video: float32 [N, D], float16 precision.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexDamagedError: the vectors are missing, cannot be read, or are not what was written.
        """
        return self._with_current(
            video, lambda manifest: self.store.read(manifest.key, vectors_hash=manifest.quickest_hash)
        )

    def verify(self, video_id: str) -> Manifest:
        """Compare every stored byte of a video's timeline and vectors with its manifest, and that with its digest.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexDamagedError: something is missing or not what was written.
        """

        def action(manifest: Manifest) -> Manifest:
            fault = manifest.fault(self._read_timeline(manifest))
            if fault is not None:
                raise IndexDamagedError(f"video {video_id}: {fault}")
            rows, values = self.store.check(manifest.key, *manifest.vectors_hashes)
            if (rows, values) != (manifest.frames, manifest.dimension):
                raise IndexDamagedError(
                    f"video {video_id}: the manifest says {manifest.frames} vectors of {manifest.dimension} values; "
                    f"stored are {rows} of {values}"
                )
            return manifest

        return self._with_current(video_id, action)

    def features(self, manifest: Manifest, spec: FeatureSpec) -> StoredFeatures | None:
        """The stored features of a video's frames under a spec; None if there are none.

        The result is the archive's own and stays open; it is good until the next call.

        Raises:
            IndexDamagedError: there are some, but their list cannot be read.
        """
        frames = frames_key(manifest)
        path = self._layout.features(manifest.video_id, frames, spec.key)
        known = self._features.get(path)
        if known is not None:
            if known.stamp == stamp_of(path, known.path):
                return known
            self._features.remove(path)
        found = open_features(path, rows=manifest.frames, frames=frames)
        if found is not None:
            self._features.put(path, found)
        return found

    def feature_lists(self, manifest: Manifest) -> list[FeatureList]:
        """What is stored of the features of a video's frames, of all specs; lists that are damaged are left out."""
        found: list[FeatureList] = []
        frames = frames_key(manifest)
        with contextlib.suppress(IndexDamagedError):  # of a folder that cannot be read, nothing is known to be stored
            for path in self._layout.feature_lists(manifest.video_id, frames):
                listed = read_sound_list(path, rows=manifest.frames, frames=frames)
                if listed is not None:
                    found.append(listed)
        return found

    def verify_features(self, video_id: str) -> int:
        """Compare every stored feature of a video with its digest; how many there are.

        Features are not part of an index: damaged ones are made anew where they are needed.

        Raises:
            VideoNotIndexedError: it is not indexed.
            IndexDamagedError: something is missing or not what was written.
        """
        manifest, count = self.require(video_id), 0
        frames = frames_key(manifest)
        # Those of other frames count for nothing: the index was replaced just now, or its writer was killed.
        for path in self._layout.feature_lists(video_id, frames):
            stored = open_features(path, rows=manifest.frames, frames=frames)
            if stored is None:
                continue
            with contextlib.closing(stored):
                rows = np.flatnonzero(stored.present)
                damaged = len(rows) - np.count_nonzero(stored.sound(rows))
            if damaged:
                raise IndexDamagedError(f"{stored.path}: {damaged} of {len(rows)} features are damaged")
            count += len(rows)
        return count

    def approximate(self, dimension: int) -> ApproximateIndex | None:
        """The approximate index of all vectors of a dimension as it is now; None if there is none.

        The result is the archive's own and stays in memory; it is good until the next call.
        """
        if not self._layout.approximate.is_dir():
            return None
        from indexes.ann.files import ApproximateFiles
        from indexes.ann.index import ApproximateIndex

        if dimension not in self._approximate:
            self._approximate[dimension] = ApproximateIndex(ApproximateFiles(self.folder, dimension))
        index = self._approximate[dimension]
        return index if index.refresh() else None

    def stored_files(self) -> Iterator[tuple[str, int]]:
        """Every file of the archive: its path below the archive's folder or URI, with ``/``, and its bytes."""
        for root, _, names in os.walk(self.folder):
            for name in names:
                path = Path(root, name)
                with contextlib.suppress(OSError):
                    yield path.relative_to(self.folder).as_posix(), path.stat().st_size

    def close(self) -> None:
        """Release files and memory. May be called twice."""
        self._approximate.clear()
        self._features.clear()
        if "store" in self.__dict__:
            self.store.close()

    def _with_current(self, video: str | Manifest, action: Callable[[Manifest], _T]) -> _T:
        """Do something with the committed generation; again if it was replaced meanwhile."""
        held, tried_again = isinstance(video, Manifest), False
        while True:
            manifest = video if isinstance(video, Manifest) else self.require(video)
            try:
                with self._remedy(manifest.video_id):
                    return action(manifest)
            except IndexDamagedError as exc:
                current = self.manifest(manifest.video_id)
                if current is not None and current.generation == manifest.generation:
                    # A video that was removed and indexed again meanwhile has its old generation: that follows from
                    # the content. So damage counts only if it is found twice.
                    if tried_again:
                        raise
                    tried_again = True
                    continue
                if held or current is None:
                    raise VideoNotIndexedError(
                        f"the index of video {manifest.video_id} in archive {self.uri} was replaced or removed "
                        "by another process while it was read; ask again"
                    ) from exc

    def _parsed(self, video_id: str, data: bytes, *, where: str) -> Manifest:
        with self._remedy(video_id):
            return parse_manifest(data, video_id=video_id, where=where)

    def _read_timeline(self, manifest: Manifest) -> Timeline:
        path, data = self._layout.timeline(manifest.key), self._timeline_bytes(manifest)
        if timeline_hash(data) != manifest.timeline_hash:
            raise IndexDamagedError(f"{path}: its content is not what was written")
        return timeline_from_bytes(data, where=str(path))

    def _timeline_bytes(self, manifest: Manifest) -> bytes:
        path = self._layout.timeline(manifest.key)
        data = read_file(path)
        if data is None:
            raise IndexDamagedError(f"{path}: the timeline of the video is missing")
        return data

    @contextmanager
    def _remedy(self, video_id: str) -> Iterator[None]:
        """Say what mends a damaged index."""
        try:
            yield
        except IndexDamagedError as exc:
            raise IndexDamagedError(f"{exc}; {self._how_to_mend(video_id)}") from exc

    def _how_to_mend(self, video_id: str) -> str:
        remedy = (
            f"to mend it, delete the folder {self._layout.video(video_id)} and run: "
            f"hybrid index VIDEO --archive {self.uri}"
        )
        more = self.store.damage_remedy if "store" in self.__dict__ else ""
        return f"{remedy} ({more})" if more else remedy
