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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import blake3

from hybrid.errors import ArchiveError, ArchiveLockedError, IndexDamagedError, InputError
from hybrid.values import Float32Array, Timeline
from hybrid.version import __version__
from indexes.atomic import make_folder, remove_file, remove_temporaries, write_atomically
from indexes.base import BackendName, check_video_id
from indexes.header import open_header
from indexes.locks import Locks
from indexes.manifest import FORMAT_VERSION, IndexConfig, IndexedVideo, IndexStatus, Manifest, Source
from indexes.paths import Layout
from indexes.reader import ArchiveReader
from indexes.timeline_file import timeline_hash, timeline_to_bytes
from indexes.vectors import hash_vectors, round_vectors

__all__ = ["Archive"]


class Archive(ArchiveReader):
    """Indexes of many videos in one folder. Open it with :meth:`open`; use it as a context manager.

    This class holds what writes; what reads is in :class:`~indexes.reader.ArchiveReader`.
    """

    def __init__(self, folder: Path, backend: BackendName) -> None:
        """Not for callers: :meth:`open` checks the folder."""
        super().__init__(folder, backend)
        self._locks = Locks(self._layout.locks)
        self._swept = False

    @classmethod
    def open(cls, folder: str | Path, *, backend: BackendName | None = None, create: bool = True) -> Archive:
        """Open an archive, or make one in a new or empty folder.

        Args:
            folder: its folder.
            backend: for a new archive (default ``faiss``); for one that exists, what it must be.
            create: make it if there is none.

        Raises:
            InputError: the backend is not known.
            ArchiveFormatError: the folder is not an archive and not empty; there is none and
                ``create`` is off; the format is newer than this version; another backend.
            ArchiveError: the folder cannot be read or written.
        """
        # Absolute, so that a later change of the working directory does not matter.
        place = Path(os.path.abspath(Path(folder).expanduser()))
        header = open_header(Layout(place), backend=backend, create=create)
        return cls(place, header.backend)

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
        *,
        timeline: Timeline,
        vectors: Float32Array,
        config: IndexConfig,
        source: Source,
        video: IndexedVideo,
        status: IndexStatus | None = None,
        note: str | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> Manifest:
        """Make this the index of a video, in place of any other. It is on disk when this returns.

        Until then, and whenever this fails or is killed, the index that was there stays in use.

        Args:
            video_id: from :meth:`identify`.
            timeline: N samples, N >= 1.
            vectors: float32 [N, D] unit vectors; row ``i`` belongs to entry ``i`` of the timeline.
            config: how it was made.
            source: where the video lies.
            video: what the decoder said.
            status: ``done`` or ``partial``; by default ``partial`` if samples are missing.
            note: what else should be known of it.
            seconds: time spent by stage.

        Raises:
            InputError: lengths, shapes or values do not fit.
            ArchiveLockedError: another process writes this video.
            ArchiveError: the disk is full or cannot be written.
        """
        rounded = round_vectors(vectors)
        if len(rounded) != len(timeline):
            raise InputError(f"there are {len(rounded)} vectors for {len(timeline)} samples")
        times = timeline_to_bytes(timeline)
        vectors_digest, timeline_digest = hash_vectors(rounded), timeline_hash(times)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            video_id=check_video_id(video_id),
            generation=blake3.blake3(f"{vectors_digest} {timeline_digest}".encode()).hexdigest(length=8),
            fingerprint=config.fingerprint,
            config=config,
            source=source,
            video=video,
            frames=len(timeline),
            dimension=rounded.shape[1],
            missing=len(timeline.missing),
            status=status or ("partial" if timeline.missing else "done"),
            note=note,
            vectors_hash=vectors_digest,
            timeline_hash=timeline_digest,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            hybrid_version=__version__,
            seconds=dict(seconds or {}),
        )
        with self.lock(video_id), self._writing(video_id):
            self.store.write(manifest.key, vectors)
            write_atomically(self._layout.timeline(manifest.key), times)
            write_atomically(self._layout.manifest(video_id), manifest.to_bytes())
        return manifest

    def note_source(self, video_id: str, source: Source) -> None:
        """Remember where an indexed video lies now; its index stays as it is.

        Raises:
            VideoNotIndexedError: it is not indexed.
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id):
            manifest = self.require(video_id)
            if manifest.source == source:
                return
            moved = manifest.model_copy(update={"source": source})
            with self._writing(video_id):
                write_atomically(self._layout.manifest(video_id), moved.to_bytes())

    def remove(self, video_id: str) -> None:
        """Forget a video; no error if it is not indexed.

        Raises:
            ArchiveLockedError: another process writes this video.
            ArchiveError: the archive cannot be written.
        """
        with self.lock(video_id), self._writing(video_id):
            remove_file(self._layout.manifest(video_id))

    def sweep(self) -> None:
        """Delete what processes that were killed while writing left behind.

        The first :meth:`lock` of an opened archive does this. It takes time by what there is to
        sweep, not by the size of the archive. Videos that another process is writing are left alone.
        """
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
        with self._locks.take(video_id, what=f"video {video_id} in archive {self.folder}", timeout=timeout):
            if (self._layout.pending / video_id).exists():
                self._clean(video_id)
            yield

    @contextmanager
    def _writing(self, video_id: str) -> Iterator[None]:
        """Mark a video while it is written, and clean up behind success and failure alike."""
        marker = self._layout.pending / video_id
        try:
            make_folder(marker.parent)
            marker.touch()
            try:
                yield
            finally:
                self._clean(video_id)
        except OSError as exc:
            raise ArchiveError(
                f"archive {self.folder}: video {video_id} could not be written: {exc.strerror or exc}"
            ) from exc

    def _clean(self, video_id: str) -> None:
        """Delete everything of a video that its manifest does not speak for. Under its lock only."""
        try:
            manifest = self.manifest(video_id)
        except IndexDamagedError:
            return  # it is not known which generation counts, so none is deleted
        current = None if manifest is None else manifest.key
        for key in list(self.store.keys(video_id)):
            if key != current:
                self.store.remove(key)
        for path in self._layout.timelines(video_id):
            if current is None or path != self._layout.timeline(current):
                remove_file(path)
        remove_temporaries(self._layout.video(video_id))
        if current is None:
            with contextlib.suppress(OSError):
                self._layout.video(video_id).rmdir()
        (self._layout.pending / video_id).unlink(missing_ok=True)
