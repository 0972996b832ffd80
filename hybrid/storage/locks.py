"""One writer at a time for each video, across processes and threads. Readers take no lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hybrid.errors import ArchiveLockedError
from hybrid.storage.atomic import make_folder, write_error

__all__ = ["Locks"]


class Locks:
    """Locks by name, as files in one folder. A thread that holds one may take it again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[tuple[int, str], FileLock] = {}

    def held(self, name: str) -> bool:
        """Whether this thread holds a lock."""
        return (threading.get_ident(), name) in self._held

    @contextmanager
    def take(self, name: str, *, what: str, timeout: float = 0.0) -> Iterator[None]:
        """Hold a lock. The system lets go of it when the process ends, however it ends.

        Args:
            name: of the lock file, without suffix.
            what: what is locked, for the error.
            timeout: seconds to wait for another holder; 0 does not wait.

        Raises:
            ArchiveLockedError: another process holds it, and still did after ``timeout`` seconds.
            ArchiveError: the folder cannot be written.
        """
        mine = (threading.get_ident(), name)
        lock = self._held.get(mine)
        if lock is None:
            lock = FileLock(self._folder / f"{name}.lock", thread_local=False)
        try:
            make_folder(self._folder)
            lock.acquire(timeout=timeout)
        except Timeout as exc:
            raise ArchiveLockedError(
                f"{what} is being written by another process (waited {timeout:g} s); let it finish and try again"
            ) from exc
        except OSError as exc:
            raise write_error(f"{self._folder}: cannot be written, so {what} cannot be locked", exc) from exc
        self._held[mine] = lock
        try:
            yield
        finally:
            lock.release()
            if not lock.is_locked:
                self._held.pop(mine, None)
