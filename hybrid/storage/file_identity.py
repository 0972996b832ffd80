"""Which file this is, and whether it is as it was when it was read: absolute paths, and stamps of files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["RECENT_SECONDS", "absolute_path", "file_state", "touched_since"]

RECENT_SECONDS: Final = 2.0
"""File systems count time in ticks (a few milliseconds here, up to 2 s elsewhere): what was touched this lately
before it was read may change once more and keep its times."""


def absolute_path(path: str | Path) -> str:
    """An absolute path without ``.`` and ``..``, so that each file has one name.

    The file need not exist. Links keep their names: a video is known by the path that its owner gave it. Only
    where ``..`` follows a link is the link's target named, because that target's parent is meant.

    >>> absolute_path("/videos/new/../a.mp4"), absolute_path("/videos//./a.mp4")
    ('/videos/a.mp4', '/videos/a.mp4')
    """
    full = Path(path).absolute()
    if ".." in full.parts:
        end = len(full.parts) - full.parts[::-1].index("..")
        climbed, rest = os.path.join(*full.parts[:end]), full.parts[end:]
        target = os.path.realpath(climbed)
        if target != os.path.realpath(os.path.normpath(climbed)):
            return os.path.join(target, *rest)
    return os.path.normpath(full)


def file_state(path: Path) -> tuple[int, int, int, int]:
    """Size, two times in nanoseconds (of content and of the entry) and inode: changes whenever the content may have.

    Raises:
        OSError: the file does not exist, or cannot be looked at.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def touched_since(paths: Iterable[Path], seconds: float) -> bool:
    """Whether one of some files was touched at this time (seconds since the epoch) or later.

    Raises:
        OSError: see :func:`file_state`.
    """
    return any(max(status.st_mtime, status.st_ctime) >= seconds for status in (path.stat() for path in paths))
