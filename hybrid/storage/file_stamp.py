"""What tells, without reading a file again, that it is as it was when it was read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["RECENT_SECONDS", "file_state", "touched_since"]

RECENT_SECONDS: Final = 2.0
"""File systems count time in ticks (a few milliseconds here, up to 2 s elsewhere): what was touched this lately
before it was read may change once more and keep its times."""


def file_state(path: Path) -> tuple[int, int, int, int]:
    """Size, two times in nanoseconds (of content and of the entry) and inode: changes whenever the content may have.

    Raises:
        OSError: there is no such file, or it cannot be looked at.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def touched_since(paths: Iterable[Path], seconds: float) -> bool:
    """Whether one of some files was touched at this time (seconds since the epoch) or later.

    Raises:
        OSError: see :func:`file_state`.
    """
    return any(max(status.st_mtime, status.st_ctime) >= seconds for status in (path.stat() for path in paths))
