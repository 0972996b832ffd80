"""Run jobs on several threads and give their results in the order of the jobs, with bounded memory.

Knows nothing of video. Each job yields items. A job that runs ahead of the one whose turn it is
stops once too much waits, the sooner the further ahead it is, and goes on when its turn comes nearer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["run_ordered"]

JobT = TypeVar("JobT")
Item = TypeVar("Item")


@dataclass(slots=True)
class _Lane(Generic[Item]):
    """What one job has yielded and the consumer has not yet taken."""

    items: deque[Item] = field(default_factory=deque)
    done: bool = False
    error: BaseException | None = None


def run_ordered(
    jobs: Sequence[JobT],
    worker: Callable[[], AbstractContextManager[Callable[[JobT], Iterator[Item]]]],
    *,
    threads: int,
    buffer_bytes: int,
    size_of: Callable[[Item], int],
) -> Iterator[Item]:
    """Yield every job's items, first job first.

    Args:
        jobs: what to do.
        worker: called once in each thread; its context yields the function that does one job.
        threads: how many jobs run at a time; with 1, they run in the caller's thread.
        buffer_bytes: how much all that waits may take up, in ``size_of``; the job whose turn it is
            may always have one item waiting, however large.
        size_of: bytes of an item.

    Raises:
        BaseException: whatever a job raised, when it is that job's turn. All threads have ended
            when the iterator ends, raises or is closed.
    """
    if threads <= 1 or len(jobs) <= 1:
        with worker() as do:
            for job in jobs:
                yield from do(job)
        return
    pool = _WorkerPool(jobs, worker, min(threads, len(jobs)), buffer_bytes, size_of)
    try:
        for number in range(len(jobs)):
            yield from pool.items_of(number)
    finally:
        pool.stop()


class _WorkerPool(Generic[JobT, Item]):
    """Threads that do jobs in order. What changes is read and changed with the lock held."""

    def __init__(
        self,
        jobs: Sequence[JobT],
        worker: Callable[[], AbstractContextManager[Callable[[JobT], Iterator[Item]]]],
        threads: int,
        buffer_bytes: int,
        size_of: Callable[[Item], int],
    ) -> None:
        self._jobs, self._worker, self._size_of = jobs, worker, size_of
        self._lookahead, self._buffer_bytes = 2 * threads, buffer_bytes
        self._waiting_bytes = self._turn = self._claimed = 0
        self._changed = threading.Condition()
        self._lanes: dict[int, _Lane[Item]] = {}
        self._stopping = False
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name=f"decode-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def items_of(self, number: int) -> Iterator[Item]:
        """The items of a job, whose turn it is from now on."""
        with self._changed:
            self._turn = number
            self._changed.notify_all()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_news(number) or self._failure is not None)
                if not self._has_news(number):
                    assert self._failure is not None
                    raise self._failure
                lane = self._lanes[number]
                if not lane.items:
                    del self._lanes[number]
                    if lane.error is not None:
                        raise lane.error
                    return
                item = lane.items.popleft()
                self._waiting_bytes -= self._size_of(item)
                self._changed.notify_all()
            yield item

    def _has_news(self, number: int) -> bool:
        lane = self._lanes.get(number)
        return lane is not None and (lane.done or bool(lane.items))

    def _run(self) -> None:
        try:
            with self._worker() as do:
                while (number := self._claim()) is not None:
                    self._do(number, do)
        except BaseException as exc:
            # The worker itself could not be set up or taken down; jobs report their own errors.
            with self._changed:
                self._failure = exc
                self._changed.notify_all()

    def _claim(self) -> int | None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopping or self._claimed == len(self._jobs) or self._claimed < self._turn + self._lookahead
                )
            )
            if self._stopping or self._claimed == len(self._jobs):
                return None
            number = self._claimed
            self._claimed += 1
            self._lanes[number] = _Lane()
            return number

    def _do(self, number: int, do: Callable[[JobT], Iterator[Item]]) -> None:
        lane = self._lanes[number]
        items = do(self._jobs[number])
        try:
            for item in items:
                if not self._put(number, lane, item):
                    break
        except BaseException as exc:
            lane.error = exc
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            with self._changed:
                lane.done = True
                self._changed.notify_all()

    def _put(self, number: int, lane: _Lane[Item], item: Item) -> bool:
        """Queue an item once there is room. False if the consumer is gone."""
        size = self._size_of(item)
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._has_room(number, lane, size))
            if self._stopping:
                return False
            lane.items.append(item)
            self._waiting_bytes += size
            self._changed.notify_all()
            return True

    def _has_room(self, number: int, lane: _Lane[Item], size: int) -> bool:
        distance = number - self._turn
        if distance <= 0 and not lane.items:
            return True
        # Jobs further ahead may use less, so that they do not take the room of those before them.
        limit = self._buffer_bytes * (self._lookahead - max(0, distance)) / self._lookahead
        return self._waiting_bytes + size <= limit
