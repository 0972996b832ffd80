"""Who may write a video, across machines."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from hybrid.errors import ArchiveLockedError
from indexes.remote.leases import Leases
from indexes.remote.object_store import Objects

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


@pytest.mark.parametrize("differing", ["folder", "host", "boot"])
def test_a_copied_working_folder_is_another_machine(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differing: str
) -> None:
    """Its owner's name was copied too, and its locks exclude nobody of the first."""
    original, objects, clock = tmp_path / "original", Objects(uri), Clock()
    original.mkdir()
    # Its thread is not to renew it on a slow machine: the test does.
    holder = Leases(objects, "same", folder=original, seconds=3600).take(NAME, what="video aa", timeout=0)
    folder = original
    if differing == "folder":
        folder = Path(shutil.copytree(original, tmp_path / "copy"))
    elif differing == "host":
        monkeypatch.setattr("indexes.remote.leases.platform.node", lambda: "another-container")
    else:
        monkeypatch.setattr("indexes.remote.leases._boot", lambda: "another boot")
    copy = Leases(objects, "same", folder=folder, clock=clock)
    with pytest.raises(ArchiveLockedError):
        copy.take(NAME, what="video aa", timeout=0)
    clock.seconds = 60.1
    holder.renew()  # it lives
    with pytest.raises(ArchiveLockedError):
        copy.take(NAME, what="video aa", timeout=0)
    holder.release(finished=False)
    clock.seconds += 60.1
    copy.take(NAME, what="video aa", timeout=0).release(finished=True)


def test_the_same_folder_is_the_same_machine(uri: str, tmp_path: Path) -> None:
    objects = Objects(uri)
    objects.put(NAME, Leases(objects, "killed", folder=tmp_path).content())
    lease = Leases(objects, "killed", folder=tmp_path).take(NAME, what="video aa", timeout=0)
    assert lease.left_over
    lease.release(finished=True)


def test_waiting_is_said_once(uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    objects, clock = Objects(uri), Clock()
    monkeypatch.setattr("indexes.remote.leases.platform.node", lambda: "far-away")
    objects.put(NAME, Leases(objects, "killed").content())

    def sleep(seconds: float) -> None:
        clock.seconds += 20

    monkeypatch.setattr("indexes.remote.leases.time.sleep", sleep)
    waiting = Leases(objects, "other", clock=clock)
    lease = waiting.take(NAME, what="video aa", timeout=70)
    assert lease.left_over
    lease.release(finished=True)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "indexes.remote.leases"]
    assert said.startswith("video aa is being written by a process on far-away")
    assert "waiting up to 70 s" in said
    assert "for 60 s" in said


def test_no_waiting_is_not_said(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    objects = Objects(uri)
    objects.put(NAME, Leases(objects, "killed").content())
    with pytest.raises(ArchiveLockedError):
        Leases(objects, "other").take(NAME, what="video aa", timeout=0)
    assert not [record for record in caplog.records if record.name == "indexes.remote.leases"]
