"""Which errors of the system mean that an archive takes nothing more, and the one place that turns them into ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import ArchiveError, ArchiveUnwritableError

__all__ = ["refuses_writing", "write_error", "write_errors"]

_REFUSALS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN)
)
"""Full, over quota, read-only, not allowed, broken, lost: so would every further write end."""


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
