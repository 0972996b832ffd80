"""Running ahead in a thread: order, errors, and an end to the thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from hybrid.engine.frames.prefetch import Prefetch, prefetched


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "hybrid-prefetch"]


def test_items_come_in_order() -> None:
    with prefetched(iter(range(100))) as items:
        assert list(items) == list(range(100))
    assert threads() == []


def test_an_error_is_raised_where_the_items_are_used() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"), prefetched(broken()) as items:
        list(items)
    assert threads() == []


def test_it_runs_ahead_but_not_far() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with prefetched(count(), limit=2) as items:
        next(items)
        # One was taken, two wait, one is held by the thread that cannot put it.
        while len(made) < 4:
            time.sleep(0.005)
        time.sleep(0.2)
        assert len(made) == 4


def test_a_consumer_that_stops_early_ends_the_thread_and_closes_the_iterator() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    def stop_early() -> None:
        with prefetched(endless()) as items:
            next(items)
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        stop_early()
    assert closed.is_set()
    assert threads() == []


def test_large_items_wait_alone_and_small_ones_together() -> None:
    made: list[int] = []

    def sizes() -> Iterator[int]:
        for size in (3, 3, 3, 20, 3):
            made.append(size)
            yield size

    with prefetched(sizes(), limit=6, size_of=lambda size: size) as items:
        while len(made) < 3:  # two wait, one is held by the thread that cannot put it
            time.sleep(0.005)
        time.sleep(0.1)
        assert len(made) == 3
        assert list(items) == [3, 3, 3, 20, 3]


def test_it_tells_when_all_is_made_while_items_still_wait() -> None:
    told = threading.Event()
    prefetch = Prefetch(iter([1, 2]), limit=2, when_made=told.set)
    assert told.wait(60)
    assert list(prefetch) == [1, 2]
    prefetch.close()


def test_an_iterator_that_cannot_be_closed_does_not_keep_its_consumer_waiting() -> None:
    class Broken:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            raise StopIteration

        def close(self) -> None:
            raise OSError("stale file handle")

    with prefetched(Broken()) as items, pytest.raises(OSError, match="stale"):  # type: ignore[arg-type]
        list(items)
    assert threads() == []
