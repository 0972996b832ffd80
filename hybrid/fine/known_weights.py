"""A cache of digests of weights, so that gigabytes are not read again to see that nothing changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import ArchiveError
from hybrid.fine.checkpoint import CheckpointFiles
from hybrid.storage.file_identity import DigestCache, absolute_path, file_state, text_hash
from hybrid.storage.locks import Locks
from indexes.format.layout import Layout

__all__ = ["KnownWeights"]

_LOCK_SECONDS = 600.0
"""How long a process waits for another one that reads the same weights: reading them itself would take as long."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """The digests of weights in an archive's cache, by the path, size, times and inode of each file.

    The cache may be deleted at any time; a damaged entry counts as none; where it cannot be written,
    nothing is remembered.

    Attributes:
        archive: folder of the archive.
        look_only: nothing is written.
    """

    archive: Path
    look_only: bool = False

    def digest(self, files: CheckpointFiles) -> str:
        """The result of :meth:`~hybrid.fine.checkpoint.CheckpointFiles.weights_digest`, which is called only if needed.

        Of several processes that ask at once, one reads.
        """
        key = "\n".join(absolute_path(path) for path in files.weights)
        cache = DigestCache(Layout(self.archive).known_weights, "weights")

        def signature() -> str:
            return text_hash(f"{key}\n{list(map(file_state, files.weights))}")

        known = cache.recall(key, signature())
        if known is not None:
            return known
        if self.look_only:
            return files.weights_digest()
        with self._alone(text_hash(key)):
            known = cache.recall(key, signature())
            return known or cache.read(key, lambda: files.weights, signature, files.weights_digest)[0]

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ArchiveError):  # an archive that cannot be written: each reads for itself
                locks = Locks(Layout(self.archive).locks)
                stack.enter_context(locks.take(f"weights-{name}", what="the cache", timeout=_LOCK_SECONDS))
            yield
