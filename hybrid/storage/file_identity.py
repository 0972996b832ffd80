"""Which file this is, and whether it is as it was when it was read: absolute paths, states of files, known digests."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import blake3

from hybrid.storage.atomic import remove_file, write_atomically
from hybrid.storage.foreign_json import read_json

__all__ = ["RECENT_SECONDS", "DigestCache", "absolute_path", "file_state", "text_hash", "touched_since"]

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


def text_hash(text: str) -> str:
    """BLAKE3 of a text, in which there may be names of files: 32 hexadecimal digits."""
    return blake3.blake3(os.fsencode(text)).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class DigestCache:
    """Digests of files that were read before, so that unchanged files are not read again.

    One small JSON file for each key. The folder may be deleted at any time; a damaged entry counts as none; where it
    cannot be written, nothing is remembered.

    Attributes:
        folder: where the entries are.
        field: what an entry calls the digest.
        with_path: whether an entry states its key, which is a path then.
    """

    folder: Path
    field: str
    with_path: bool = False

    def recall(self, key: str, signature: str) -> str | None:
        """The digest that is known for files with this signature (see :meth:`read`); None if none is."""
        try:
            document = read_json(self._entry(key), names=True)
            found = str(document[self.field])
            return found if document == self._document(key, signature, found) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read(
        self,
        key: str,
        files: Callable[[], Iterable[Path]],
        signature: Callable[[], str],
        digest: Callable[[], str],
    ) -> tuple[str, str | None]:
        """Read files, and remember their digest unless they may have changed meanwhile.

        Args:
            key: names the entry.
            files: those that are read.
            signature: changes whenever one of them may have changed.
            digest: reads them.

        Returns:
            The digest, and the signature that it is certain to belong to; None if that is not certain.

        Raises:
            OSError: a file cannot be read.
        """
        before, started = signature(), time.time()
        found = digest()
        if signature() == before and not touched_since(files(), started - RECENT_SECONDS):
            with contextlib.suppress(OSError, UnicodeEncodeError):
                write_atomically(self._entry(key), json.dumps(self._document(key, before, found)).encode())
            return found, before
        if self.recall(key, before) not in (None, found):
            remove_file(self._entry(key))  # false, and too early to write the right one
        return found, None

    def _entry(self, key: str) -> Path:
        return self.folder / f"{text_hash(key)}.json"

    def _document(self, key: str, signature: str, found: str) -> dict[str, str]:
        """An entry, with a digest of its own, by which a changed byte, or another key's entry, is known."""
        parts = {**({"path": key} if self.with_path else {}), "signature": signature, self.field: found}
        return {**parts, "digest": text_hash(("\n" if self.with_path else " ").join(parts.values()))}
