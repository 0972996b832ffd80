"""The digests of weights that were read before, so that gigabytes are not read again to see that nothing changed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import blake3

from hybrid.errors import ArchiveError
from hybrid.fine.checkpoint import CheckpointFiles
from hybrid.storage.atomic import write_atomically
from hybrid.storage.file_identity import RECENT_SECONDS, absolute_path, file_state, touched_since
from hybrid.storage.foreign_json import read_json
from hybrid.storage.locks import Locks
from indexes.format.layout import Layout

__all__ = ["KnownWeights"]

_LOCK_SECONDS = 600.0
"""How long a process waits for another one that reads the same weights: reading them itself would take as long."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """What an archive's cache remembers of weights, by the path, size, times and inode of each file.

    The cache may be deleted at any time; a damaged entry counts as none; where it cannot be written,
    nothing is remembered.

    Attributes:
        archive: folder of the archive.
        look_only: nothing is written.
    """

    archive: Path
    look_only: bool = False

    def digest(self, files: CheckpointFiles) -> str:
        """What :meth:`~hybrid.fine.checkpoint.CheckpointFiles.weights_digest` gives, which is called only if need be.

        Of several processes that ask at once, one reads.
        """
        entry = Layout(self.archive).known_weights / f"{_hash(_places(files))}.json"
        known = _recall(entry, _signature(files))
        if known is not None:
            return known
        if self.look_only:
            return files.weights_digest()
        with self._alone(entry):
            before = _signature(files)
            known = _recall(entry, before)
            return known if known is not None else _read(files, entry, before)

    @contextmanager
    def _alone(self, entry: Path) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ArchiveError):  # an archive that cannot be written: each reads for itself
                locks = Locks(Layout(self.archive).locks)
                stack.enter_context(locks.take(f"weights-{entry.stem}", what="the cache", timeout=_LOCK_SECONDS))
            yield


def _read(files: CheckpointFiles, entry: Path, before: str) -> str:
    started = time.time()
    found = files.weights_digest()
    if _signature(files) == before and not touched_since(files.weights, started - RECENT_SECONDS):
        with contextlib.suppress(OSError):
            write_atomically(entry, json.dumps(_document(before, found)).encode())
    return found


def _recall(entry: Path, signature: str) -> str | None:
    try:
        document = read_json(entry)
        found = str(document["weights"])
        if document == _document(signature, found):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _document(signature: str, weights: str) -> dict[str, str]:
    """What is remembered, with a digest by which a changed byte is known."""
    return {"signature": signature, "weights": weights, "digest": _hash(f"{signature} {weights}")}


def _places(files: CheckpointFiles) -> str:
    return "\n".join(absolute_path(path) for path in files.weights)


def _signature(files: CheckpointFiles) -> str:
    """Changes whenever the weights may have changed."""
    return _hash(f"{_places(files)}\n{list(map(file_state, files.weights))}")


def _hash(text: str) -> str:
    return blake3.blake3(os.fsencode(text)).hexdigest(length=16)
