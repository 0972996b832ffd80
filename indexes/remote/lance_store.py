"""The vectors of a remote archive: the same LanceDB tables, in an object store.

Writers of one machine take turns by a lock file. Those of several machines do not: LanceDB's own
commits decide (a new version is made by a conditional write), and a write that met another one is
done again, as far as it was not done.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from hybrid.errors import ArchiveError
from hybrid.values import Float32Array
from indexes.format.layout import VectorKey
from indexes.remote.patience import CLIENT_RETRIES, CLIENT_SECONDS, Patience
from indexes.stores.lance_errors import is_write_conflict
from indexes.stores.lance_store import LanceStore

__all__ = ["RemoteLanceStore"]

_T = TypeVar("_T")

_TRIES = 8
_FIRST_PAUSE_SECONDS = 0.1
_MOST_FRAGMENTS = 20
"""Each fragment costs a lookup a request or more, which here takes tens of milliseconds."""


class RemoteLanceStore(LanceStore):
    """See :class:`~indexes.stores.interface.VectorStore`."""

    def __init__(self, folder: Path, *, uri: str, patience: Patience | None = None) -> None:
        """Open the store; nothing is written before the first :meth:`write`.

        Args:
            folder: of this machine, for the lock file.
            uri: where the tables lie. Credentials and endpoint come from the environment.
            patience: of the archive; by default one of its own.
        """
        super().__init__(folder)
        self._name = uri
        self._most_fragments = _MOST_FRAGMENTS
        self._patience = patience or Patience()
        self._storage_options = {
            "client_max_retries": str(CLIENT_RETRIES),
            "client_retry_timeout": str(CLIENT_SECONDS),
        }

    def write(self, key: VectorKey, vectors: Float32Array) -> str:
        return self._until_it_fits(lambda: super(RemoteLanceStore, self).write(key, vectors))

    def remove(self, key: VectorKey) -> None:
        self._until_it_fits(lambda: super(RemoteLanceStore, self).remove(key))

    def compact(self) -> str | None:
        return self._until_it_fits(super().compact)

    # What the methods of the interface that these leave out need goes through one of them.

    def _vectors(self, key: VectorKey, vectors_hash: str | None) -> Float32Array:
        return self._patience.ask(lambda: super(RemoteLanceStore, self)._vectors(key, vectors_hash))

    def count(self, key: VectorKey) -> int:
        return self._patience.ask(lambda: super(RemoteLanceStore, self).count(key))

    def check(self, key: VectorKey, *vectors_hashes: str) -> tuple[int, int]:
        return self._patience.ask(lambda: super(RemoteLanceStore, self).check(key, *vectors_hashes))

    def keys(self, video_id: str | None = None) -> Iterator[VectorKey]:
        yield from self._patience.ask(lambda: list(super(RemoteLanceStore, self).keys(video_id)))

    def _rows_of(self, dimension: int) -> int:
        return self._patience.ask(lambda: super(RemoteLanceStore, self)._rows_of(dimension))

    def _fresh(self) -> LanceStore:
        return RemoteLanceStore(self.folder, uri=self._name, patience=self._patience)

    def _dimensions(self) -> list[int]:
        found: list[str] = []
        page: str | None = None
        while True:
            with self._reading("the list of tables"):
                answer = self._connect().list_tables(page_token=page)
            found += answer.tables
            page = answer.page_token
            if not page:
                break
        return [int(name.removeprefix("frames_")) for name in sorted(found) if _is_ours(name)]

    def _is_unmade(self, name: str) -> bool:
        return False  # a table is there from the one write on that makes its first version

    def _sync(self) -> None:
        """Nothing: what an object store has taken is durable."""

    def _until_it_fits(self, action: Callable[[], _T]) -> _T:
        for turn in range(_TRIES):
            try:
                return self._patience.ask(action)
            except ArchiveError as exc:
                if turn == _TRIES - 1 or not is_write_conflict(exc):
                    raise
                time.sleep(random.uniform(0.5, 1.0) * _FIRST_PAUSE_SECONDS * 2**turn)
        raise AssertionError  # pragma: no cover (the last turn returns or raises)


def _is_ours(name: str) -> bool:
    return name.startswith("frames_") and name.removeprefix("frames_").isdigit()


STORE = RemoteLanceStore
