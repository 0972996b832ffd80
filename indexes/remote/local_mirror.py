"""The small files of a remote archive as this machine has them: copies that may be deleted at any time.

Manifests, records of failures and marks of unfinished writing lie in the object store under the very
names that they have in an archive on disk, and are copied into a folder, so that everything that
reads an archive reads this one too. What the store holds is what counts; a copy is believed as long
as the store lists the version that it was made of. Features and caches lie in the folder only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from hybrid.errors import ArchiveLockedError
from hybrid.storage.atomic import Stamp, file_stamp, make_folder, write_atomically, write_error, write_unlocked
from hybrid.storage.foreign_json import STORED, read_json
from hybrid.storage.locks import Locks
from indexes.format.layout import VIDEO_ID, Layout
from indexes.remote.object_store import ObjectInfo, Objects

__all__ = ["LocalMirror"]

_COPIED = re.compile(r"videos/[0-9a-f]{1,64}/manifest\.json|failed/(path-)?[0-9a-f]{1,64}\.json")
_OF_VIDEO = re.compile(r"videos/([0-9a-f]{1,64})/[^/]+")
_MARK = re.compile(r"pending/([0-9a-f]{1,64})")
_FETCHED_AT_ONCE = 16
_OWNER_SECONDS = 60.0


class LocalMirror:
    """Brings the folder up to date. Several processes may do that at once."""

    def __init__(self, objects: Objects, layout: Layout, locks: Locks) -> None:
        self._objects = objects
        self._layout = layout
        self._locks = locks
        self._known = self._remembered()

    def owner(self) -> str:
        """A name for this folder, and so for this machine; drawn when it is first asked for."""
        path = self._layout.folder / "owner"
        with contextlib.suppress(OSError):
            return path.read_text()
        with self._locks.take("owner", what=f"the folder {self._layout.folder}", timeout=_OWNER_SECONDS):
            if not path.exists():
                write_atomically(path, secrets.token_hex(16).encode())
        return path.read_text()

    def name_of(self, path: Path) -> str:
        """The name of the object that a path in the folder stands for."""
        return path.relative_to(self._layout.folder).as_posix()

    def fetch(self, name: str) -> bytes | None:
        """Make one file what the store holds now; it is deleted if the store holds none.

        Returns:
            What the store holds. The file may be another the next moment: a process that asked the store
            before this one may come to write it after this one.

        Raises:
            ArchiveError: the store cannot be read, or the copy cannot be written.
        """
        found = self._objects.get(name)
        path = self._layout.folder / name
        with self._writing():
            if found is None:
                path.unlink(missing_ok=True)
                self._known.pop(name, None)
                return None
            self._known[name] = (found.version, _settle(path, found.data))
            return found.data

    def keep(self, name: str, data: bytes) -> None:
        """Have a copy of an object whose content never changes.

        Raises:
            ArchiveError: the copy cannot be written.
        """
        with self._writing():
            _settle(self._layout.folder / name, data)

    def refresh(self) -> int:
        """Bring all manifests, failures and marks up to date; how many files were fetched.

        Raises:
            ArchiveError: the store cannot be read.
        """
        before = dict(self._known)
        listed = {**self._objects.list("videos"), **self._objects.list("failed")}
        copied = {name: info for name, info in listed.items() if _COPIED.fullmatch(name)}
        stale = [name for name, info in copied.items() if not self._is_current(name, info)]
        deleted = [name for name in self._copies() if name not in copied]
        with ThreadPoolExecutor(_FETCHED_AT_ONCE, thread_name_prefix="hybrid-fetch") as pool:
            list(pool.map(self.fetch, [*stale, *deleted]))
        self._match_folders({found[1] for found in map(_OF_VIDEO.fullmatch, listed) if found})
        self._match_marks({found[1] for found in map(_MARK.fullmatch, self._objects.list("pending")) if found})
        if self._known != before:
            write_atomically(self._memory, json.dumps(self._known).encode())
        return len(stale)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            what = f"{self._layout.folder}: this machine's copies of archive {self._objects.uri} cannot be written"
            raise write_error(what, exc, remedy="; name another folder for them by HYBRID_CACHE") from exc

    def _is_current(self, name: str, info: ObjectInfo) -> bool:
        known = self._known.get(name)
        return known is not None and known[0] == info.version and known[1] == _stamp(self._layout.folder / name)

    def _copies(self) -> Iterable[str]:
        paths = [self._layout.manifest(video_id) for video_id in self._layout.video_ids()]
        paths += [self._layout.failed / name for name in _names(self._layout.failed)]
        return [name for name in map(self.name_of, paths) if (self._layout.folder / name).exists()]

    def _match_folders(self, video_ids: set[str]) -> None:
        """A folder for each video of which the store holds anything, and none for others."""
        for video_id in video_ids:
            make_folder(self._layout.video(video_id))
        for video_id in set(self._layout.video_ids()) - video_ids:
            # Another process of this machine may have made it since the store was asked.
            with contextlib.suppress(ArchiveLockedError), self._locks.take(video_id, what="a removed video"):
                marked = (self._layout.pending / video_id).exists()
                if not marked and self._objects.get(f"videos/{video_id}/manifest.json") is None:
                    shutil.rmtree(self._layout.video(video_id), ignore_errors=True)

    def _match_marks(self, video_ids: set[str]) -> None:
        make_folder(self._layout.pending)
        for video_id in video_ids:
            (self._layout.pending / video_id).touch()
        for video_id in set(_names(self._layout.pending)) - video_ids:
            mark = self._layout.pending / video_id
            if not _is_id(video_id):
                mark.unlink(missing_ok=True)
                continue
            # Another process of this machine may have made lease and mark since the store was asked.
            with contextlib.suppress(ArchiveLockedError), self._locks.take(video_id, what="an unfinished video"):
                if self._objects.get(self.name_of(mark)) is None:
                    mark.unlink(missing_ok=True)

    @property
    def _memory(self) -> Path:
        return self._layout.folder / "cache" / "objects"

    def _remembered(self) -> dict[str, tuple[str, Stamp]]:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            document = read_json(self._memory, limits=STORED, names=True)
            return {name: (version, (file, size, time)) for name, (version, (file, size, time)) in document.items()}
        return {}


def _settle(path: Path, data: bytes) -> Stamp:
    """Give a file this content, unless it has it; its stamp."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read() == data:
            return file_stamp(file.fileno())
    # A writer of this machine cleans up in its video's folder, and whoever sees that a video was removed deletes
    # that: the file may be deleted before it has its name.
    return write_unlocked(path, data, durable=False)


def _stamp(path: Path) -> Stamp | None:
    with contextlib.suppress(OSError):
        return file_stamp(path)
    return None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _is_id(name: str) -> bool:
    return re.fullmatch(VIDEO_ID, name) is not None
