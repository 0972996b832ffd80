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
    "sync_folder",
    "sync_new_files",
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


def sync_new_files(folder: Path, done: set[str], *, rewritten: tuple[str, ...] = ()) -> None:
    """Flush every file below a folder that was not flushed before, and the folders that hold one, to disk.

    For libraries that write without flushing, and write most files once: those are not even looked at
    again, so that a call costs by what is new (and a glance at the names).

    Args:
        folder: what to flush.
        done: paths of what was flushed before; brought up to date.
        rewritten: endings of files that are written more than once, and are flushed each time.
    """
    there: set[str] = set()
    for root, _, names in os.walk(folder):
        paths = {f"{root}{os.sep}{name}" for name in names}
        there |= paths
        # A file may go while we look: another process may compact the table.
        fresh = [path for path in sorted(paths - done) if _sync_file(path)]
        if fresh:
            done.update(path for path in fresh if not path.endswith(rewritten))
            with contextlib.suppress(FileNotFoundError):
                sync_folder(Path(root))
    beside = f"{folder}{os.sep}"
    done -= {path for path in done - there if path.startswith(beside)}


def _sync_file(path: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


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
