"""The right to write one video, across machines: a lease, kept as an object in the store.

``pending/<video id>`` is made by a conditional write, so that one writer gets it. While the writer
lives it replaces the object again and again; one that does not change for a lease's length was left
by a writer that is dead, and whoever saw that takes it over, again by a conditional write. No clock is
compared with another machine's. Writers on one machine exclude each other by lock files first, so
that what a killed process of this machine left is known for that at once: by the name of the working
folder, and, because folders are copied with their names, by host, boot and the folder's own number.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hybrid.errors import ArchiveError, ArchiveLockedError
from hybrid.storage.foreign_json import parse_json
from indexes.remote.object_store import Objects, StoredObject

__all__ = ["LEASE_SECONDS", "Lease", "Leases"]

LEASE_SECONDS = 60.0
"""A lease that is not renewed for so long has no owner any more."""

_RENEWALS = 3
_POLL_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Lease:
    """One lease that is held. Renews itself in a thread until it is released."""

    def __init__(self, leases: Leases, name: str, version: str, *, left_over: bool) -> None:
        """Not for callers: see :meth:`Leases.take`."""
        self.left_over = left_over
        """Whether another writer had it and did not come to its end."""
        self._leases = leases
        self._name = name
        self._version = version
        self._lost = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hybrid-lease", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Make sure that it is still held, and will be for a lease's length.

        Raises:
            ArchiveLockedError: another writer has taken it over.
            ArchiveError: the store cannot be written.
        """
        with self._lock:
            if not self._lost:
                version = self._leases.objects.replace(self._name, self._leases.content(), self._version)
                self._lost = version is None
                self._version = version or ""
            if self._lost:
                raise ArchiveLockedError(
                    f"{self._leases.objects.uri}/{self._name}: this process did not reach the store for so long that "
                    "another one has taken the video over; let that one finish, or run the same command again"
                )

    def release(self, *, finished: bool) -> None:
        """Release the lease.

        Args:
            finished: nothing of the video is left half-written. Otherwise the object stays, and tells
                the next writer to clean up.

        Raises:
            ArchiveError: the store cannot be written.
        """
        self._stop.set()
        self._thread.join()
        if not finished:
            return
        with contextlib.suppress(ArchiveLockedError):
            self.renew()  # never delete what another writer holds by now
            self._leases.objects.delete(self._name)

    def _keep(self) -> None:
        while not self._stop.wait(self._leases.seconds / _RENEWALS):
            with contextlib.suppress(ArchiveError):
                self.renew()


class Leases:
    """The leases of one remote archive, as one process sees them."""

    def __init__(
        self,
        objects: Objects,
        owner: str,
        *,
        folder: Path | None = None,
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            objects: of the archive.
            owner: names the machine. Whoever calls :meth:`take` must hold the machine's own lock of the same
                name, so that no other living process of this owner has the lease.
            folder: where the machine's locks are. A copy of it has the same owner and other locks.
            seconds: length of a lease; the same for all writers of an archive.
            clock: tells seconds from any beginning on.
        """
        self.objects = objects
        self.seconds = seconds
        self._holder = {"owner": owner, "host": platform.node(), "boot": _boot(), "folder": _number_of(folder)}
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}

    def take(self, name: str, *, what: str, timeout: float) -> Lease:
        """Get the lease of this name. If it has to be waited for, the log says so once, as a warning.

        Args:
            name: of the object.
            what: for the error.
            timeout: seconds to wait for another writer.

        Raises:
            ArchiveLockedError: another writer has it, and still had after ``timeout`` seconds.
            ArchiveError: the store cannot be written.
        """
        deadline = self._clock() + timeout
        warned = False
        while True:
            version = self.objects.create(name, self.content())
            if version is not None:
                return Lease(self, name, version, left_over=False)
            found = self.objects.get(name)
            if found is None:  # it was released just now
                continue
            if self._is_dead(name, found):
                version = self.objects.replace(name, self.content(), found.version)
                if version is not None:
                    return Lease(self, name, version, left_over=True)
                continue
            left = deadline - self._clock()
            if left <= 0:
                raise ArchiveLockedError(
                    f"{what} is being written by a process on {_host_in(found.data)} (waited {timeout:g} s); let it "
                    f"finish and try again (if it was killed, the video is free {self.seconds:g} s after that)"
                )
            if not warned:
                warned = True
                _log.warning(
                    "%s is being written by a process on %s, or was when that was killed: waiting up to %.0f s for it "
                    "(it is free when nothing has been heard of that process for %g s)",
                    what,
                    _host_in(found.data),
                    left,
                    self.seconds,
                )
            time.sleep(min(_POLL_SECONDS, self.seconds / _RENEWALS, left))

    def content(self) -> bytes:
        """What a lease's object holds now: another content each time, so that each renewal is another version."""
        document = {**self._holder, "process": os.getpid(), "turn": secrets.token_hex(8)}
        return json.dumps(document).encode()

    def _is_dead(self, name: str, found: StoredObject) -> bool:
        """Whether nobody renews a lease any more. It takes a lease's length to see that of another machine's."""
        if all(_field(found.data, name) == value for name, value in self._holder.items()):
            return True  # the caller holds the lock file that its writer held, and that one is gone
        version, since = self._seen.get(name, ("", 0.0))
        if version != found.version:
            self._seen[name] = (found.version, self._clock())
            return False
        return self._clock() - since >= self.seconds


def _boot() -> str:
    """Names this run of the system's kernel; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _number_of(folder: Path | None) -> str:
    """What no other folder of a running system has, copies least of all; empty without a folder."""
    if folder is None:
        return ""
    with contextlib.suppress(OSError):
        status = os.stat(folder)
        return f"{status.st_dev:x}-{status.st_ino:x}"
    return ""


def _host_in(data: bytes) -> str:
    return _field(data, "host") or "another machine"


def _field(data: bytes, name: str) -> str | None:
    try:
        value = parse_json(data, where="lease")[name]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) else None
