"""A real file system that is full: a small tmpfs, which only root may mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["fill", "make_read_only", "small_disk"]


@contextmanager
def small_disk(folder: Path, *, mebibytes: int = 64) -> Iterator[Path]:
    """Mount a tmpfs at a new folder; the test is skipped where that is not allowed."""
    folder.mkdir()
    command = shutil.which("mount")
    options = f"size={mebibytes}m,mode=0700"
    mounted = (
        command is not None
        and not subprocess.run(
            [command, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("no file system can be mounted here (that takes root)")
    try:
        yield folder
    finally:
        # Lazily: a memory map of a file there may outlive the test.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, *, free_bytes: int = 0) -> Path:
    """Write a file that leaves so much room, rounded down to whole pages; delete it to have room again."""
    ballast = disk / "ballast"
    usage = os.statvfs(disk)
    with open(ballast, "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, usage.f_bavail * usage.f_frsize - free_bytes))
    return ballast


def make_read_only(disk: Path) -> None:
    """Let the system refuse every further write there."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
