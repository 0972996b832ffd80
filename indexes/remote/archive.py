"""An archive in an object store: ``s3://BUCKET/PREFIX``, with the backend ``lancedb``.

The objects below the prefix have the names and contents of the files of an archive on disk, so that
copying them into a folder gives an archive that opens. What reads an archive reads copies of the
small ones (:mod:`indexes.remote.local_mirror`); vectors are read from the store itself. One writer has a
video by a lock file on its machine and a lease in the store (:mod:`indexes.remote.leases`); the manifest,
written last and right after the lease was renewed, is the commit point as everywhere.

docs/format.md says what is guaranteed and what is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from hybrid.errors import (
    ArchiveError,
    ArchiveFormatError,
    ArchiveLockedError,
    ArchiveUnreachableError,
    IndexDamagedError,
)
from hybrid.storage.atomic import remove_file, write_atomically
from indexes.archive.header import Header, new_header, parse_header
from indexes.archive.writer import Archive
from indexes.format.layout import Layout, check_video_id
from indexes.format.location import check_uri, working_folder
from indexes.format.manifest import Manifest
from indexes.format.timeline_file import timeline_hash
from indexes.remote.leases import Lease, Leases
from indexes.remote.local_mirror import LocalMirror
from indexes.remote.object_store import Objects
from indexes.stores.interface import VectorStore
from indexes.stores.registry import REMOTE_STORES, check_backend, open_store

__all__ = ["RemoteArchive", "open_remote"]

_NOTED_AT_ONCE = 64
"""From so many fetched manifests on, the local catalogue is written anew."""


def open_remote(location: str | Path, *, backend: str | None, create: bool) -> RemoteArchive:
    """Open a remote archive, or make one below an empty prefix. See :meth:`indexes.archive.writer.Archive.open`.

    Raises:
        InputError: the URI is not legal, or the backend is not ``lancedb``.
        MissingDependencyError: the package obstore is not installed.
        ArchiveFormatError: there is something else below the prefix; there is no archive and ``create``
            is off; it is of a newer version.
        ArchiveUnreachableError: the store cannot be reached, read or written.
        ArchiveError: it ignores conditional writes; this machine's working folder cannot be written.
    """
    uri = check_uri(location)
    backend = check_backend(backend or REMOTE_STORES.names[0], remote=True)
    objects = Objects(uri)
    layout = Layout(working_folder(uri))
    header = _first_contact(objects, layout) or _create(objects, layout, backend, create=create)
    if header.backend not in REMOTE_STORES.names:
        raise ArchiveFormatError(
            f"{uri}: this archive's backend is {header.backend!r}, which cannot be used in an object store; copy it "
            "into a folder, or run there: hybrid convert FOLDER --backend lancedb"
        )
    archive = RemoteArchive(uri, objects, layout.folder, header.backend)
    archive.refresh()
    return archive


def _first_contact(objects: Objects, layout: Layout) -> Header | None:
    try:
        return _fetch_header(objects, layout)
    except ArchiveUnreachableError as exc:
        raise ArchiveUnreachableError(
            f"{exc}; the object store is found by the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_REGION, and for others than Amazon's AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true if that begins "
            "with http:)"
        ) from exc


def _fetch_header(objects: Objects, layout: Layout) -> Header | None:
    found = objects.get("archive.json")
    if found is None:
        layout.header.unlink(missing_ok=True)
        return None
    write_atomically(layout.header, found.data)
    # Not what the file holds now: another process may have asked before there was an archive, and delete it.
    return parse_header(found.data, where=f"{objects.uri}/archive.json")


def _create(objects: Objects, layout: Layout, backend: str, *, create: bool) -> Header:
    if not create:
        raise ArchiveFormatError(
            f"{objects.uri}: there is no archive here; make one with: hybrid index VIDEO --archive {objects.uri} "
            "--backend lancedb"
        )
    if not objects.is_empty():
        # The header is an archive's first object, so whatever another opener put there since we asked for one
        # came after it.
        made = _fetch_header(objects, layout)
        if made is not None:
            return made
        raise ArchiveFormatError(
            f"{objects.uri}: no archive, but other objects lie below this prefix; choose another prefix"
        )
    if not objects.obeys_conditions():
        raise ArchiveError(
            f"{objects.uri}: this object store ignores conditional writes (If-None-Match, If-Match), without which "
            "writers cannot be kept apart; use another store, or an archive in a folder"
        )
    # Another process may make it at the same time; then its header is the one that counts.
    objects.create("archive.json", new_header(backend).to_bytes())
    header = _fetch_header(objects, layout)
    if header is None:
        raise ArchiveError(f"{objects.uri}: the archive was deleted while it was made")
    return header


class RemoteArchive(Archive):
    """See :class:`~indexes.archive.writer.Archive`.

    Features of GenS stay in the folder of the machine that made them."""

    def __init__(self, uri: str, objects: Objects, folder: Path, backend: str) -> None:
        """Not for callers: see :func:`open_remote`."""
        super().__init__(folder, backend, uri=uri)
        self._objects = objects
        self._copy = LocalMirror(objects, self._layout, self._locks)
        self._held: dict[str, Lease] = {}
        self._unfinished: set[str] = set()

    @cached_property
    def store(self) -> VectorStore:
        """The vectors, in the object store."""
        return open_store(self.folder, self.backend, uri=self.uri, patience=self._objects.patience)

    @cached_property
    def _leases(self) -> Leases:
        return Leases(self._objects, self._copy.owner(), folder=self.folder)

    def refresh(self) -> None:
        """Fetch what other machines have written. Opening the archive does that.

        Raises:
            ArchiveError: the store cannot be read.
        """
        if self._copy.refresh() >= _NOTED_AT_ONCE:
            with contextlib.suppress(OSError, ArchiveError):
                self._catalogue_writer.rewrite()

    def manifest(self, video_id: str) -> Manifest | None:
        # Not what the copy holds now: by one that is older than a commit, cleaning up would delete the new index.
        path = self._layout.manifest(video_id)
        data = self._copy.fetch(self._copy.name_of(path))
        return None if data is None else self._parsed(video_id, data, where=str(path))

    def manifests(self, *, on_damage: Callable[[str, IndexDamagedError], None] | None = None) -> Iterator[Manifest]:
        self.refresh()
        yield from super().manifests(on_damage=on_damage)

    def verify(self, video_id: str) -> Manifest:
        # The bytes in the store are to be compared, not this machine's copies.
        for path in self._layout.timelines(check_video_id(video_id)):
            remove_file(path)
        return super().verify(video_id)

    def put_file(self, path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            self._lease_of(path.parent.name).renew()
        self._objects.put(self._copy.name_of(path), data)
        write_atomically(path, data)

    def drop_file(self, path: Path) -> None:
        if path.name == "manifest.json":
            self._lease_of(path.parent.name).renew()
        elif not path.exists():
            return  # a record of a failure that this machine never saw
        self._objects.delete(self._copy.name_of(path))
        remove_file(path)

    def stored_files(self) -> Iterator[tuple[str, int]]:
        for name, info in self._objects.list().items():
            yield name, info.size_bytes

    @contextmanager
    def _take(self, video_id: str, timeout: float) -> Iterator[None]:
        what = f"video {check_video_id(video_id)} in archive {self.uri}"
        nested = self._locks.held(video_id)
        with self._locks.take(video_id, what=what, timeout=timeout):
            if nested:
                yield
                return
            lease = self._leases.take(f"pending/{video_id}", what=what, timeout=timeout)
            self._held[video_id] = lease
            try:
                if lease.left_over or self._mark_of(video_id).exists():
                    self._unfinished.add(video_id)  # even if this machine cannot take note of it
                    self._mark(video_id)
                    with self._written(video_id):
                        self._clean(video_id)
                yield
            finally:
                # Where it could not be cleaned up, the lease stays and says so. The mark would not do
                # for this: other processes of this machine match it with what they saw in the store.
                finished = video_id not in self._unfinished
                self._unfinished.discard(video_id)
                del self._held[video_id]
                with contextlib.suppress(ArchiveError):  # a lease that cannot be released runs out
                    lease.release(finished=finished)

    def _mark(self, video_id: str) -> None:
        super()._mark(video_id)
        self._unfinished.add(video_id)

    def _clean(self, video_id: str) -> bool:
        self._lease_of(video_id).renew()
        try:
            manifest = self.manifest(video_id)
        except IndexDamagedError:
            return False  # it is not known which generation counts, so none is deleted
        keep = set()
        if manifest is not None:
            keep = {self._layout.manifest(video_id), self._layout.timeline(manifest.key)}
        for name in self._objects.list(self._copy.name_of(self._layout.video(video_id))):
            if self._layout.folder / name not in keep:
                self._objects.delete(name)
        if not super()._clean(video_id):
            return False
        self._unfinished.discard(video_id)
        return True

    def _mark_of(self, video_id: str) -> Path:
        return self._layout.pending / video_id

    def _lease_of(self, video_id: str) -> Lease:
        lease = self._held.get(video_id)
        if lease is None:
            raise ArchiveLockedError(f"video {video_id} in archive {self.uri} is not locked by this process")
        return lease

    def _timeline_bytes(self, manifest: Manifest) -> bytes:
        path = self._layout.timeline(manifest.key)
        with contextlib.suppress(IndexDamagedError):
            data = super()._timeline_bytes(manifest)
            if timeline_hash(data) == manifest.timeline_hash:
                return data
        name = self._copy.name_of(path)
        found = self._objects.get(name)
        if found is None:
            raise IndexDamagedError(f"{self.uri}/{name}: the timeline of the video is missing")
        with contextlib.suppress(ArchiveError):  # without a copy it is only asked for again
            self._copy.keep(name, found.data)
        return found.data

    def _how_to_mend(self, video_id: str) -> str:
        return (
            f"to mend it, run: hybrid remove {video_id} --archive {self.uri}, "
            f"and then: hybrid index VIDEO --archive {self.uri}"
        )
