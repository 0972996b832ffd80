"""Files that appear complete or not at all, and stay after a power failure.

A file is written under a temporary name in its own folder, flushed to disk, renamed over the final
name, and the folder is flushed so that the rename itself is on disk. A process that is killed on
the way leaves at most a temporary file, which :func:`remove_temporaries` deletes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "is_temporary",
    "make_folder",
    "remove_file",
    "remove_temporaries",
    "sync_files",
    "sync_folder",
    "write_atomically",
]

_MARK = ".tmp-"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``, durably. Missing parent folders are made.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    make_folder(path.parent)
    # The random part keeps two processes that write the same file out of each other's way.
    temporary = path.with_name(f".{path.name}{_MARK}{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Delete a file, durably; no error if there is none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each entry flushed to disk; no error if it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(folder: Path, done: dict[str, tuple[int, int]]) -> None:
    """Flush every file below a folder, and the folders themselves, to disk.

    For libraries that write without flushing.

    Args:
        folder: what to flush.
        done: path -> (size, time of change) of what was flushed before and need not be again;
            brought up to date.
    """
    for root, _, names in os.walk(folder):
        fresh = False
        for name in names:
            path = os.path.join(root, name)
            # A file may go while we look: another process may compact the table.
            with contextlib.suppress(FileNotFoundError):
                fresh |= _sync_file(path, done)
        if fresh:
            with contextlib.suppress(FileNotFoundError):
                sync_folder(Path(root))


def _sync_file(path: str, done: dict[str, tuple[int, int]]) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(handle)
        stamp = (status.st_size, status.st_mtime_ns)
        if done.get(path) == stamp:
            return False
        os.fsync(handle)
        done[path] = stamp
        return True
    finally:
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether a file name is one that :func:`write_atomically` uses on the way."""
    return name.startswith(".") and _MARK in name


def temporaries(folder: Path) -> Iterator[Path]:
    """The temporary files in a folder (not below it)."""
    with contextlib.suppress(FileNotFoundError):
        yield from [entry for entry in folder.iterdir() if is_temporary(entry.name)]


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files in a folder. Only while nobody else can be writing there."""
    for path in temporaries(folder):
        path.unlink(missing_ok=True)
