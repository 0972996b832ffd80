"""Opening an archive wherever it lies: in a folder, or in an object store."""

from __future__ import annotations

from pathlib import Path

from indexes.archive.writer import Archive
from indexes.format.location import is_remote

__all__ = ["open_archive"]


def open_archive(location: str | Path, *, backend: str | None = None, create: bool = True) -> Archive:
    """Open an archive, or make one in a new or empty folder, or below an empty prefix.

    Args:
        location: a folder; or ``s3://BUCKET/PREFIX`` as a text (see :mod:`indexes.remote.archive`).
        backend: for a new archive (default: ``faiss``, in an object store ``lancedb``); for one that exists,
            what it must be.
        create: make it if there is none.

    Raises:
        InputError: the backend is not known, or the URI is not legal.
        MissingDependencyError: a remote archive, and the package for it is not installed.
        ArchiveFormatError: there is something else; there is none and ``create`` is off; the format is newer than
            this version; another backend.
        ArchiveUnreachableError: the object store cannot be reached, read or written.
        ArchiveError: the folder cannot be read or written.
    """
    if is_remote(location):
        from indexes.remote.archive import open_remote

        return open_remote(location, backend=backend, create=create)
    return Archive.open(location, backend=backend, create=create)
