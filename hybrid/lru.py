"""A cache that drops what was used longest ago."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LruCache"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Values by key, within a total size. Safe for several threads.

    ``functools.lru_cache`` calls a function; here values are replaced, removed and closed as well, and have sizes.
    """

    def __init__(self, limit: int, *, on_drop: Callable[[Value], None] | None = None) -> None:
        """Make an empty cache.

        Args:
            limit: how large all values together may be. The one that was put last stays, however large it is.
            on_drop: called with each value that goes, to close it.
        """
        self._limit = limit
        self._on_drop = on_drop
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """The value of a key, which counts as used now; None if there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value, size: int = 1) -> None:
        """Store a value, in place of an older one."""
        with self._lock:
            self._drop(key)
            self._entries[key] = (value, size)
            self._total += size
            while len(self._entries) > 1 and self._total > self._limit:
                self._drop(next(iter(self._entries)))

    def remove(self, key: Key) -> None:
        """Drop the value of a key; no error if there is none."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            for key in list(self._entries):
                self._drop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._total -= entry[1]
            if self._on_drop is not None:
                self._on_drop(entry[0])
