"""Who may write a video, across machines."""

from __future__ import annotations

import time

import pytest

from hybrid.errors import ArchiveLockedError
from indexes.leases import Leases
from indexes.objects import Objects

NAME = "pending/aa"


def test_one_writer_at_a_time(uri: str) -> None:
    objects = Objects(uri)
    here, there = Leases(objects, "here"), Leases(objects, "there")
    lease = here.take(NAME, what="video aa", timeout=0)
    assert not lease.left_over
    with pytest.raises(ArchiveLockedError, match="video aa is being written by a process on"):
        there.take(NAME, what="video aa", timeout=0)
    lease.release(finished=True)
    assert objects.get(NAME) is None
    there.take(NAME, what="video aa", timeout=0).release(finished=True)


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_what_a_killed_writer_left_is_known_to_its_machine_at_once(uri: str) -> None:
    objects = Objects(uri)
    objects.put(NAME, Leases(objects, "killed").content())
    # The lock file that the caller holds says that no process of this machine has it.
    lease = Leases(objects, "killed").take(NAME, what="video aa", timeout=0)
    assert lease.left_over
    lease.release(finished=False)
    assert objects.get(NAME) is not None, "it tells the next writer to clean up"


def test_what_a_killed_writer_left_is_free_to_other_machines_later(uri: str) -> None:
    objects, clock = Objects(uri), Clock()
    objects.put(NAME, Leases(objects, "killed").content())
    other = Leases(objects, "other", clock=clock)
    for seconds in (0, 59.9):
        clock.seconds = seconds
        with pytest.raises(ArchiveLockedError):
            other.take(NAME, what="video aa", timeout=0)
    clock.seconds = 60.1
    lease = other.take(NAME, what="video aa", timeout=0)
    assert lease.left_over
    lease.release(finished=True)
    assert objects.get(NAME) is None


def test_a_lease_that_is_renewed_is_not_taken_over(uri: str) -> None:
    objects, clock = Objects(uri), Clock()
    holder = Leases(objects, "here").take(NAME, what="video aa", timeout=0)
    other = Leases(objects, "there", clock=clock)
    for _ in range(3):
        with pytest.raises(ArchiveLockedError):
            other.take(NAME, what="video aa", timeout=0)
        clock.seconds += 100
        holder.renew()
    holder.release(finished=True)


def test_renewing_goes_on_by_itself(uri: str) -> None:
    objects = Objects(uri)
    lease = Leases(objects, "here", seconds=0.3).take(NAME, what="video aa", timeout=0)
    first = objects.get(NAME)
    deadline = time.monotonic() + 30
    while objects.get(NAME) == first and time.monotonic() < deadline:
        time.sleep(0.02)
    assert objects.get(NAME) != first
    lease.release(finished=True)
    assert objects.get(NAME) is None


def test_a_lost_lease_is_noticed_and_left_alone(uri: str) -> None:
    objects = Objects(uri)
    lease = Leases(objects, "here").take(NAME, what="video aa", timeout=0)
    objects.put(NAME, b"somebody else's")
    with pytest.raises(ArchiveLockedError, match="another one has taken the video over"):
        lease.renew()
    lease.release(finished=True)
    found = objects.get(NAME)
    assert found is not None
    assert found.data == b"somebody else's"
