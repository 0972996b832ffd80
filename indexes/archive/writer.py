"""An archive on disk: for each video one committed index, whatever happens to the process that writes.

A video's index is a manifest, a timeline and vectors. Timeline and vectors lie under a generation,
a name that follows from their content. A new index is written beside the one in use; replacing the
manifest, one atomic rename, is the moment from which the new one counts; only then does the old one
go. docs/format.md describes the files.

The archive knows nothing of decoders and models: configurations and times come from the caller.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from hybrid.errors import ArchiveLockedError, ArchiveUnwritableError, IndexDamagedError, InputError
from hybrid.storage.atomic import (
    make_empty_file,
    remove_file,
    remove_temporaries,
    sync_folder,
    write_atomically,
    write_errors,
)
from hybrid.storage.locks import Locks
from hybrid.values import Float32Array
from indexes.archive.feature_file import StagedFeatures, append_features, read_sound_list, remove_features
from indexes.archive.header import open_header
from indexes.archive.new_index import NewIndex, check_parts
from indexes.archive.reader import ArchiveReader
from indexes.archive.source_location import merged_source
from indexes.format.catalogue import CatalogueWriter
from indexes.format.feature_list import FeatureItem, FeatureList, FeatureSpec, frames_key
from indexes.format.layout import Layout, check_video_id, feature_values_name
from indexes.format.location import local_folder
from indexes.format.manifest import (
    Manifest,
    Source,
)
from indexes.format.timeline_file import timeline_to_bytes

__all__ = ["Archive"]


class Archive(ArchiveReader):
    """Indexes of many videos in one folder. Open it with :meth:`open`; use it as a context manager.

    This class holds what writes; what reads is in :class:`~indexes.archive.reader.ArchiveReader`.
    """

    def __init__(self, folder: Path, backend: str, *, uri: str | None = None) -> None:
        """Not for callers: :meth:`open` checks the folder."""
        super().__init__(folder, backend, uri=uri)
        self._locks = Locks(self._layout.locks)
        self._catalogue_writer = CatalogueWriter(self._layout, self._locks)
        self._swept = False

    @classmethod
    def open(cls, folder: str | Path, *, backend: str | None = None, create: bool = True) -> Archive:
        """Open an archive, or make one in a new or empty folder.

        Args:
            folder: its folder. For a text that may name an object store, see :func:`indexes.open_archive.open_archive`.
            backend: for a new archive (default: the first of :data:`indexes.stores.registry.STORES`); for one that
                exists, what it must be.
            create: make it if there is none.

        Raises:
            InputError: the backend is not known.
            ArchiveFormatError: the folder is not an archive and not empty; there is none and
                ``create`` is off; the format is newer than this version; another backend.
            ArchiveError: the folder cannot be read or written.
        """
        root = local_folder(folder)
        header = open_header(Layout(root), backend=backend, create=create)
        return cls(root, header.backend)

    @contextmanager
    def lock(self, video_id: str, *, timeout: float = 0.0) -> Iterator[None]:
        """Hold the right to write one video. :meth:`commit` and :meth:`remove` take it themselves.

        Take it around looking (:meth:`up_to_date`) and indexing, so that two processes do not both
        do the work. May be nested within one thread.

        Args:
            video_id: which video.
            timeout: seconds to wait for another process; 0 does not wait.

        Raises:
            ArchiveLockedError: another process writes this video, and still did after ``timeout``.
            ArchiveError: the archive cannot be written.
        """
        if not self._swept:
            self._swept = True
            self.sweep()
        with self._take(video_id, timeout):
            yield

    def commit(
        self,
        video_id: str,
        index: NewIndex,
        *,
        other_frames: bool = False,
        features: StagedFeatures | None = None,
    ) -> Manifest:
        """Make this the index of a video, in place of any other. It is on disk when this returns.

        Until then, and whenever this fails or is killed, the index that was there stays in use.

        Args:
            video_id: from :meth:`identify`.
            index: what is stored.
            other_frames: the index that this one replaces is of other frames at the same times, so that the features
                that are stored are not theirs, and are deleted.
            features: of the fine stage, for each distinct frame of the timeline in order.

        Raises:
            InputError: lengths, shapes or values do not fit.
            ArchiveLockedError: another process writes this video.
            ArchiveError: the disk is full or cannot be written.
        """
        times = timeline_to_bytes(index.timeline)
        manifest = index.manifest(video_id, times)
        with self.lock(video_id), self._writing(video_id):
            before = self.readable_manifest(video_id)
            if before is not None:
                source = merged_source(before, manifest.source, self.identify)
                manifest = manifest.model_copy(update={"source": source})
            self._write_parts(manifest, times, index.vectors)
            if other_frames:
                remove_features(self._layout, video_id)
            if features is not None:
                frames = frames_key(manifest)
                path = self._layout.features(video_id, frames, features.spec.key)
                rows = index.timeline.distinct_rows()
                features.finish(path, frames=frames, rows=rows, count=manifest.frames)
            self.put_file(self._layout.manifest(video_id), manifest.to_bytes())
        return manifest

    def adopt(self, manifest: Manifest, *, timeline: bytes, vectors: Float32Array) -> None:
        """Make an index that another archive holds this one's, manifest and all, in place of any other.

        Args:
            manifest: of the other archive.
            timeline: content of its timeline file.
            vectors: float32 [N, D], as :meth:`read` gives them.

        Raises:
            InputError: timeline or vectors are not those of the manifest, or it contradicts itself.
            ArchiveLockedError: another process writes this video.
            ArchiveError: the disk is full or cannot be written.
        """
        check_parts(manifest, timeline=timeline, vectors=vectors)
        with self.lock(manifest.video_id), self._writing(manifest.video_id):
            self._write_parts(manifest, timeline, vectors)
            before = self.readable_manifest(manifest.video_id)
            if before is None or before.frame_rules != manifest.frame_rules:
                remove_features(self._layout, manifest.video_id)  # they may be of other frames at the same times
            self.put_file(self._layout.manifest(manifest.video_id), manifest.to_bytes())

    @contextmanager
    def stage_features(self, video_id: str, spec: FeatureSpec) -> Iterator[StagedFeatures]:
        """Temporary storage for the features of a video that is being indexed; :meth:`commit` takes them over.

        What is not committed when this ends, or when the process is killed, is deleted.

        Raises:
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id):
            staged = StagedFeatures(self._layout.video(video_id), spec)
            self._mark(video_id)
            try:
                yield staged
            finally:
                staged.discard()
                with self._written(video_id):
                    self._clean(video_id)

    def add_features(
        self,
        manifest: Manifest,
        spec: FeatureSpec,
        items: Mapping[int, FeatureItem],
        *,
        damaged: Collection[int] = (),
        timeout: float = 0.0,
    ) -> int:
        """Store features of some rows of an indexed video. They are on disk when this returns.

        Args:
            manifest: of the index whose rows are meant.
            spec: what the features are of.
            items: row -> item. A row that is stored already stays as it is.
            damaged: rows of ``items`` that are stored, but damaged, and are to be replaced.
            timeout: seconds to wait for another process that writes this video.

        Returns:
            How many were added. None are if the index was replaced meanwhile by one of other frames.

        Raises:
            InputError: an item does not fit the spec, or there is no such row.
            ArchiveLockedError: another process writes this video, and still did after ``timeout``.
            ArchiveError: the disk is full or cannot be written.
        """
        if items and not 0 <= min(items) <= max(items) < manifest.frames:
            raise InputError(f"rows are {min(items)} to {max(items)}; the index has {manifest.frames}")
        frames, video_id = frames_key(manifest), manifest.video_id
        with self.lock(video_id, timeout=timeout):
            current = self.manifest(video_id)
            if current is None or frames_key(current) != frames:
                return 0
            path = self._layout.features(video_id, frames, spec.key)
            known = read_sound_list(path, rows=manifest.frames, frames=frames) or FeatureList.empty(
                spec, frames=frames, rows=manifest.frames, values_name=feature_values_name(frames, spec.key)
            )
            present = known.present
            fresh = {row: item for row, item in items.items() if not present[row] or row in damaged}
            if fresh:
                with self._writing(video_id):
                    append_features(path, known, fresh)
            return len(fresh)

    def drop_features(self, video_id: str) -> int:
        """Delete the stored features of a video, of all specs; how many bytes they took.

        Its index stays. No error if there are none.

        Raises:
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id), self._writing(video_id):
            return remove_features(self._layout, video_id)

    def note_source(self, video_id: str, source: Source, *, frame_rules: int | None = None) -> None:
        """Remember where an indexed video lies now, and what it was found to be; its index stays as it is.

        A path that is stored stays the first one as long as the video lies there: copies at several
        paths would else take turns. The others are kept beside it.

        Args:
            video_id: of the video.
            source: where it lies.
            frame_rules: the version of the rules by which its frames are the same; None if that was not looked at.

        Raises:
            VideoNotIndexedError: it is not indexed.
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id):
            manifest = self.require(video_id)
            merged = merged_source(manifest, source, self.identify)
            noted = manifest.model_copy(update={"source": merged, "frame_rules": frame_rules or manifest.frame_rules})
            if noted == manifest:
                return
            with self._writing(video_id):
                self.put_file(self._layout.manifest(video_id), noted.to_bytes())

    def remove(self, video_id: str) -> None:
        """Forget a video; no error if it is not indexed.

        Raises:
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id), self._writing(video_id):
            self.drop_file(self._layout.manifest(video_id))

    def put_file(self, path: Path, data: bytes) -> None:
        """Write one of the archive's small files: it is as a whole what it was, or this, whatever happens.

        Raises:
            OSError, ArchiveError: the archive cannot be written.
        """
        write_atomically(path, data)

    def drop_file(self, path: Path) -> None:
        """Delete one of the archive's small files; no error if there is none.

        Raises:
            OSError, ArchiveError: the archive cannot be written.
        """
        remove_file(path)

    def sweep(self) -> None:
        """Delete what processes that were killed while writing left behind.

        The first :meth:`lock` of an opened archive does this. It takes time by what there is to
        sweep, not by the size of the archive, but for a look at the names in the cache of content
        ids. Videos that another process is writing are left alone.
        """
        with write_errors(f"archive {self.uri} cannot be written"):
            sync_folder(self._layout.folder)  # they may have made folders there that are not on disk yet
        # What another process begins there just now may go, too: then it remembers one thing less.
        remove_temporaries(self._layout.known_paths)
        try:
            names = sorted(os.listdir(self._layout.pending))
        except FileNotFoundError:
            return
        for name in names:
            with contextlib.suppress(ArchiveLockedError, InputError), self._take(name, 0.0):
                pass

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _take(self, video_id: str, timeout: float) -> Iterator[None]:
        check_video_id(video_id)
        nested = self._locks.held(video_id)  # then what is there may be this thread's own, and unfinished
        with self._locks.take(video_id, what=f"video {video_id} in archive {self.uri}", timeout=timeout):
            if not nested and (self._layout.pending / video_id).exists():
                with self._written(video_id):
                    self._clean(video_id)
            yield

    @contextmanager
    def _writing(self, video_id: str) -> Iterator[None]:
        """Mark a video while it is written, and clean up behind success and failure alike."""
        with self._written(video_id):
            self._mark(video_id)
            try:
                yield
            finally:
                self._clean(video_id)

    @contextmanager
    def _written(self, video_id: str) -> Iterator[None]:
        """Say of which archive and video it is that something could not be written."""
        with write_errors(f"archive {self.uri}: video {video_id} could not be written"):
            yield

    def _write_parts(self, manifest: Manifest, timeline: bytes, vectors: Float32Array) -> None:
        with self._storing(manifest.video_id):
            self.store.write(manifest.key, vectors)
        self.put_file(self._layout.timeline(manifest.key), timeline)

    @contextmanager
    def _storing(self, video_id: str) -> Iterator[None]:
        """Say that nothing can be stored where what is stored cannot be read: that is not one video's damage."""
        try:
            yield
        except IndexDamagedError as exc:
            raise ArchiveUnwritableError(
                f"archive {self.uri} takes no vectors, because those that it holds cannot be read: {exc}; "
                f"{self._how_to_mend(video_id)}"
            ) from exc

    def _mark(self, video_id: str) -> None:
        marker = self._layout.pending / video_id
        with write_errors(f"archive {self.uri} cannot be written"):
            make_empty_file(marker)

    def _clean(self, video_id: str) -> bool:
        """Delete everything of a video that its manifest does not refer to; whether that is known. Under its lock."""
        try:
            manifest = self.manifest(video_id)
        except IndexDamagedError:
            return False  # it is not known which generation counts, so none is deleted
        current = None if manifest is None else manifest.key
        with self._storing(video_id):
            for key in list(self.store.keys(video_id)):
                if key != current:
                    self.store.remove(key)
        for path in self._layout.timelines(video_id):
            if current is None or path != self._layout.timeline(current):
                remove_file(path)
        remove_features(self._layout, video_id, except_of=manifest)
        remove_temporaries(self._layout.video(video_id))
        if current is None:
            with contextlib.suppress(OSError):
                self._layout.video(video_id).rmdir()
        if manifest is not None:
            self._catalogue_writer.note(manifest)
        (self._layout.pending / video_id).unlink(missing_ok=True)
        return True
