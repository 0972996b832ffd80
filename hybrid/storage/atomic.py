"""Files that appear complete or not at all, and stay after a power failure.

A file is written under a temporary name in its own folder, flushed to disk, renamed over the final
name, and the folder is flushed so that the rename itself is on disk. A process that is killed on
the way leaves at most a temporary file, which :func:`remove_temporaries` deletes.

A folder is an entry of its parent as a file is: a new one outlives a power failure only once its parent was
flushed. :func:`make_folder` does that for the folders that we make, :class:`NewFiles` for those that a library makes.

What the system refuses to write becomes one of our errors by :func:`write_errors`, which tells whether further
writes would fail as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybrid.errors import ArchiveError, ArchiveUnwritableError

__all__ = [
    "NewFiles",
    "Stamp",
    "file_stamp",
    "is_temporary",
    "make_empty_file",
    "make_folder",
    "refuses_writing",
    "remove_file",
    "remove_temporaries",
    "sync_folder",
    "write_atomically",
    "write_error",
    "write_errors",
    "write_unlocked",
]

_MARK = ".tmp-"
_TRIES = 20

_REFUSALS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN)
)
"""Full, over quota, read-only, not allowed, broken, lost: so would every further write end."""

Stamp = tuple[int, int, int]
"""See :func:`file_stamp`."""


def refuses_writing(number: int | None) -> bool:
    """Whether an error number of the system means that further writes fail as well."""
    return number in _REFUSALS


def write_error(what: str, exc: OSError, *, remedy: str = "") -> ArchiveError:
    """The error for a write that the system refused.

    Args:
        what: what could not be written, as a sentence.
        exc: the system's error.
        remedy: what to do; follows after the system's reason.

    Returns:
        ArchiveUnwritableError if further writes would fail as well, else ArchiveError.
    """
    kind = ArchiveUnwritableError if refuses_writing(exc.errno) else ArchiveError
    return kind(f"{what}: {exc.strerror or exc}{remedy}")


@contextmanager
def write_errors(what: str) -> Iterator[None]:
    """Raise the system's errors as :func:`write_error`."""
    try:
        yield
    except OSError as exc:
        raise write_error(what, exc) from exc


def write_atomically(path: Path, data: bytes | Iterable[bytes], *, durable: bool = True) -> Stamp:
    """Replace ``path`` with ``data``, whole or in blocks. Missing parent folders are made.

    Args:
        path: of the file.
        data: its content.
        durable: flush file and folders to disk; off for copies that can be made again.

    Returns:
        The stamp of this very file: by now another process may have replaced it.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    if durable:
        make_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    # The random part keeps two processes that write the same file out of each other's way.
    temporary = path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            stamp = file_stamp(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)
    return stamp


def write_unlocked(path: Path, data: bytes, *, durable: bool = True) -> Stamp:
    """:func:`write_atomically` without a lock, in a folder that another process may clean up or delete meanwhile."""
    for _ in range(_TRIES - 1):
        # Path.mkdir says that the folder exists if that is deleted right after it was found.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            return write_atomically(path, data, durable=durable)
    return write_atomically(path, data, durable=durable)


def file_stamp(file: str | Path | int) -> Stamp:
    """Inode, size and time of change of a file: another one after it was replaced or rewritten.

    Raises:
        OSError: it does not exist, or cannot be looked at.
    """
    status = os.stat(file)
    # The inode, since two processes may write one file within one tick of the file system's clock.
    return status.st_ino, status.st_size, status.st_mtime_ns


def remove_file(path: Path) -> None:
    """Delete a file, durably; no error if there is none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    with contextlib.suppress(FileNotFoundError):  # another process has deleted the folder, too
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each entry flushed to disk; no error if it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def make_empty_file(path: Path) -> None:
    """Make a file whose name is all that it says, durably; no error if it exists. Missing parent folders are made."""
    make_folder(path.parent)
    path.touch()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that (Windows cannot)."""
    if os.name != "nt":
        _flush_to_disk(folder)


def _flush_to_disk(path: str | Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class NewFiles:
    """Flushes what a library has written below a folder without flushing it.

    Most of such files are written once: those are not even looked at again, so that a flush costs by
    what is new, and a glance at the names.
    """

    def __init__(self, *, rewritten: tuple[str, ...] = ()) -> None:
        """``rewritten``: endings of files that are written more than once, and are flushed each time."""
        self._rewritten = rewritten
        self._flushed: dict[str, set[str]] = {}
        self._folders: dict[str, set[str]] = {}

    def flush(self, folder: Path) -> None:
        """Flush what is new to disk: every file below a folder, and every folder with a new entry.

        The folder itself is an entry of its parent, which is flushed when the folder is seen first.
        """
        if str(folder) not in self._flushed:
            sync_folder(folder.parent)
        self._flush(str(folder))

    def _flush(self, folder: str) -> None:
        # A file or a folder may go while we look: another process may compact the table.
        try:
            names = set(os.listdir(folder))
        except FileNotFoundError:
            return
        flushed, folders = self._flushed.setdefault(folder, set()), self._folders.setdefault(folder, set())
        flushed &= names
        folders &= names
        fresh = False
        for name in sorted(names - flushed - folders):
            path = f"{folder}{os.sep}{name}"
            if os.path.isdir(path):
                folders.add(name)
                fresh = True
            elif _sync_file(path):
                fresh = True
                if not name.endswith(self._rewritten):
                    flushed.add(name)
        for name in folders:
            self._flush(f"{folder}{os.sep}{name}")
        if fresh:
            with contextlib.suppress(FileNotFoundError):
                sync_folder(Path(folder))


def _sync_file(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        _flush_to_disk(path)
        return True
    return False


def is_temporary(name: str) -> bool:
    """Whether a file name is one that :func:`write_atomically` uses on the way."""
    return name.startswith(".") and _MARK in name


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files in a folder. Only while nobody else can be writing there."""
    with contextlib.suppress(FileNotFoundError):
        for entry in list(folder.iterdir()):
            if is_temporary(entry.name):
                entry.unlink(missing_ok=True)
