"""Let an iterator run ahead in a thread, a bounded number of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Prefetch", "prefetched"]

Item = TypeVar("Item")

_END = object()


class Prefetch(Generic[Item]):
    """An iterator whose items are made in a thread of its own, a bounded number ahead of who takes them.

    What the iterator raises is raised where its items are taken. :meth:`close` it in any case.

    Args:
        items: is advanced in the thread, and only there.
        ahead: how many items may wait, at least 1.
        when_made: called in the thread once no further item will be made.
    """

    def __init__(self, items: Iterator[Item], *, ahead: int = 2, when_made: Callable[[], None] | None = None) -> None:
        self._items = items
        self._waiting: queue.Queue[object] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._made = threading.Event()
        self._when_made = when_made
        self._thread = threading.Thread(target=self._run, name="hybrid-prefetch", daemon=True)
        self._thread.start()

    @property
    def all_made(self) -> bool:
        """Whether the last item is made; it may still wait to be taken."""
        return self._made.is_set()

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._waiting.get()
            if item is _END:
                return
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """Make no more items; when this returns, the thread has ended and the iterator is closed."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last: object = _END
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as exc:
            last = _Raised(exc)
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            self._made.set()
            if self._when_made is not None:
                self._when_made()
            self._put(last)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


@contextmanager
def prefetched(items: Iterator[Item], *, ahead: int = 2) -> Iterator[Iterator[Item]]:
    """A :class:`Prefetch` that is closed when the context is left, also if the consumer stopped early."""
    prefetch = Prefetch(items, ahead=ahead)
    try:
        yield iter(prefetch)
    finally:
        prefetch.close()


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error
