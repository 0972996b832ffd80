"""Let an iterator run ahead in a thread, within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Prefetch", "prefetched"]

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """An iterator whose items are made in a thread of its own, ahead of who takes them.

    What the iterator raises is raised where its items are taken. :meth:`close` it in any case.

    Args:
        items: is advanced in the thread, and only there.
        limit: how much may wait, in ``size_of``; one item may always.
        size_of: of an item, for instance its bytes; by default each counts 1.
        when_made: called in the thread once no further item will be made.
    """

    def __init__(
        self,
        items: Iterator[Item],
        *,
        limit: int = 2,
        size_of: Callable[[Item], int] = lambda _: 1,
        when_made: Callable[[], None] | None = None,
    ) -> None:
        self._items, self._limit, self._size_of = items, limit, size_of
        self._when_made = when_made
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        self._waiting_size = 0
        self._made = False
        self._error: BaseException | None = None
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="hybrid-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._made)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._waiting.popleft()
                self._waiting_size -= self._size_of(item)
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """Make no more items; when this returns, the thread has ended and the iterator is closed."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        error = None
        try:
            self._make()
        except BaseException as exc:
            error = exc
        with self._changed:
            self._made, self._error = True, error
            self._changed.notify_all()
        if self._when_made is not None:
            self._when_made()

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()

    def _put(self, item: Item) -> bool:
        """Have an item wait once there is room; False if nobody wants it any more."""
        size = self._size_of(item)
        with self._changed:
            self._changed.wait_for(lambda: self._stop or not self._waiting or self._waiting_size + size <= self._limit)
            if self._stop:
                return False
            self._waiting.append(item)
            self._waiting_size += size
            self._changed.notify_all()
            return True


@contextmanager
def prefetched(
    items: Iterator[Item], *, limit: int = 2, size_of: Callable[[Item], int] = lambda _: 1
) -> Iterator[Iterator[Item]]:
    """A :class:`Prefetch` that is closed when the context is left, also if the consumer stopped early."""
    prefetch = Prefetch(items, limit=limit, size_of=size_of)
    try:
        yield iter(prefetch)
    finally:
        prefetch.close()
