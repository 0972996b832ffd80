"""Order, memory, errors and threads of the ordered runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.frames.decoding.parallel import run_ordered


@contextmanager
def plain_worker() -> Iterator[Callable[[list[int]], Iterator[int]]]:
    """Yields a job's own numbers."""
    yield iter


def run(jobs: list[list[int]], *, threads: int, buffer_bytes: int = 1000) -> Iterator[int]:
    return run_ordered(jobs, plain_worker, threads=threads, buffer_bytes=buffer_bytes, size_of=lambda item: 10)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(), max_size=6), max_size=12), st.integers(1, 5), st.sampled_from([0, 10, 45, 10_000])
)
def test_items_come_in_the_order_of_the_jobs(jobs: list[list[int]], threads: int, buffer_bytes: int) -> None:
    assert list(run(jobs, threads=threads, buffer_bytes=buffer_bytes)) == [item for job in jobs for item in job]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_jobs_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=250)

    @contextmanager
    def worker() -> Iterator[Callable[[int], Iterator[int]]]:
        def do(job: int) -> Iterator[int]:
            meeting.wait()
            yield job

        yield do

    assert list(run_ordered([0, 1, 2], worker, threads=3, buffer_bytes=100, size_of=lambda item: 1)) == [0, 1, 2]


def test_what_waits_is_bounded() -> None:
    made: list[int] = []
    taken: list[int] = []
    most = 0

    @contextmanager
    def worker() -> Iterator[Callable[[int], Iterator[int]]]:
        def do(job: int) -> Iterator[int]:
            for item in range(20):
                made.append(item)
                yield item

        yield do

    for item in run_ordered(range(30), worker, threads=2, buffer_bytes=80, size_of=lambda item: 10):
        taken.append(item)
        time.sleep(0.0005)
        most = max(most, len(made) - len(taken))
    assert taken == list(range(20)) * 30
    # Eight items may wait, one more of the job whose turn it is, and each worker holds one.
    assert most <= 8 + 1 + 2


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_when_it_is_its_jobs_turn(threads: int) -> None:
    @contextmanager
    def worker() -> Iterator[Callable[[int], Iterator[int]]]:
        def do(job: int) -> Iterator[int]:
            yield job
            if job == 2:
                raise ValueError("job 2")

        yield do

    seen: list[int] = []
    with pytest.raises(ValueError, match="job 2"):
        seen.extend(run_ordered(range(9), worker, threads=threads, buffer_bytes=100, size_of=lambda item: 1))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_a_worker_that_cannot_start_is_an_error() -> None:
    @contextmanager
    def worker() -> Iterator[Callable[[int], Iterator[int]]]:
        raise OSError("no such file")
        yield iter  # type: ignore[unreachable]

    with pytest.raises(OSError, match="no such file"):
        list(run_ordered(range(5), worker, threads=2, buffer_bytes=100, size_of=lambda item: 1))


def test_stopping_early_ends_all_threads_and_workers() -> None:
    open_workers = []
    all_there = threading.Barrier(4, timeout=250)

    @contextmanager
    def worker() -> Iterator[Callable[[int], Iterator[int]]]:
        open_workers.append(1)
        all_there.wait()  # the first item may otherwise be there before the last thread has run at all
        try:
            yield lambda job: iter(range(1000))
        finally:
            open_workers.pop()

    items = run_ordered(range(50), worker, threads=4, buffer_bytes=100, size_of=lambda item: 10)
    assert next(items) == 0
    assert len(open_workers) == 4
    items.close()  # type: ignore[attr-defined]
    assert open_workers == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]
