"""What a store keeps in memory for the next question, within a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from indexes.format.layout import VectorKey

__all__ = ["DEFAULT_CACHE_BYTES", "Kept"]

DEFAULT_CACHE_BYTES = 256 * 2**20
"""How many bytes of vectors stay in memory for the next question: 20 hours of 512-d at 1 fps are 74 MB."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    stamp: Any
    size_bytes: int


class Kept(Generic[T]):
    """Values by key, those used last; the very last one however large it is. May be used from several threads."""

    def __init__(self, most_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """``most_bytes``: how much they may take up together."""
        self._most_bytes = most_bytes
        self._entries: OrderedDict[VectorKey, _Entry[T]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: VectorKey, stamp: Any) -> T | None:
        """The value that was put with an equal stamp; the stamp says what it was read from."""
        with self._guard:
            entry = self._entries.get(key)
            if entry is None or entry.stamp != stamp:
                return None
            self._entries.move_to_end(key)
            return entry.value

    def put(self, key: VectorKey, stamp: Any, value: T, size_bytes: int) -> None:
        """Keep a value, in place of an older one."""
        with self._guard:
            self._entries[key] = _Entry(value, stamp, size_bytes)
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and sum(e.size_bytes for e in self._entries.values()) > self._most_bytes:
                self._entries.popitem(last=False)

    def forget(self, key: VectorKey) -> None:
        """Let go of one."""
        with self._guard:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Let go of all."""
        with self._guard:
            self._entries.clear()
