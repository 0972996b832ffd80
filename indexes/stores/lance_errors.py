"""LanceDB's errors, turned into ours. Nothing but its texts tells them apart, and they are read here only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid.errors import ArchiveError, ArchiveUnreachableError, ArchiveUnwritableError, HybridError
from hybrid.storage.atomic import refuses_writing

__all__ = ["is_write_conflict", "lance_errors", "line_of"]

_OBJECT_STORE = ("Generic S3 error", "lacked the necessary privileges", "lacked valid authentication credentials")
"""How the client of the object store begins what it could not get an answer for, or was refused."""


@contextmanager
def lance_errors(what: str, error: type[ArchiveError]) -> Iterator[None]:
    """Raise LanceDB's errors as ours; those that are ours pass as they are.

    Args:
        what: what failed, as a sentence.
        error: ArchiveError where LanceDB writes, IndexDamagedError where it reads. In its place comes
            ArchiveUnwritableError if the system lets nothing more be written, and
            ArchiveUnreachableError if an object store did not answer or refused.
    """
    try:
        yield
    except HybridError:
        raise
    except BaseException as exc:
        # Lance's Rust code may panic on damaged data; that arrives as a BaseException of its own.
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        raise _kind_of(exc, error)(f"{what}: {line_of(exc)}") from exc


def is_write_conflict(exc: ArchiveError) -> bool:
    """Whether a write failed only because another machine's came first."""
    text = f"{exc} {exc.__cause__}".lower()
    return "conflict" in text or "concurrent" in text


def line_of(exc: BaseException) -> str:
    """The first line of an error, without the lines of Lance's source code that it ends with."""
    first = (str(exc).splitlines() or [type(exc).__name__])[0]
    return re.sub(r",? \S+\.rs:[\d:]+", "", first)[:200]


def _kind_of(exc: BaseException, error: type[ArchiveError]) -> type[ArchiveError]:
    if any(text in str(exc) for text in _OBJECT_STORE):
        return ArchiveUnreachableError
    if error is ArchiveError and refuses_writing(_system_error(exc)):
        return ArchiveUnwritableError
    return error


def _system_error(exc: BaseException) -> int | None:
    """The system's error number: of an error of Python's own, or as Rust writes it into its texts."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return exc.errno
    found = re.search(r"\(os error (\d+)\)", str(exc))
    return int(found[1]) if found else None
