"""Let an iterator run ahead in a thread, a bounded number of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["prefetched"]

Item = TypeVar("Item")

_END = object()


@contextmanager
def prefetched(items: Iterator[Item], *, ahead: int = 2) -> Iterator[Iterator[Item]]:
    """Run ``items`` in a thread of its own, so that decoding and embedding overlap.

    The thread has ended when the context is left, also if the consumer stopped early. What the
    iterator raises is raised where the items are consumed.

    Args:
        items: is advanced in the thread, and only there.
        ahead: how many items may wait, at least 1.
    """
    waiting: queue.Queue[object] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    break
            put(_END)
        except BaseException as exc:
            put(_Raised(exc))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def consume() -> Iterator[Item]:
        while True:
            item = waiting.get()
            if item is _END:
                return
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=run, name="hybrid-prefetch", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error
