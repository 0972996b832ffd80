"""What looks like a video and has no end when it is read: a pipe, a socket, a device. It fails with the reason."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.engine import Engine
from hybrid.engine.batch.estimate import estimate_run
from hybrid.engine.batch.run import index_here
from hybrid.errors import VideoOpenError
from hybrid.options.engine import EngineOptions
from indexes.archive.content_id import identify
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.test_run import Listener
from tests.engine.test_search import ColourEncoder


@pytest.fixture
def odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """By what they are."""
    folder = tmp_path / "videos"
    folder.mkdir()
    monkeypatch.chdir(folder)  # the name of a socket must be short
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.mp4")
    Path("device.mp4").symlink_to("/dev/zero")
    return {
        "a named pipe": folder / "pipe.mp4",
        "a socket": folder / "socket.mp4",
        "a device": folder / "device.mp4",
    }


@pytest.mark.timeout(120)
def test_they_fail_with_the_reason_and_the_run_goes_on(odd_files: dict[str, Path], tmp_path: Path) -> None:
    clip = write_demo_clip(tmp_path / "videos" / "good.mp4", [replace(DEMO_SCENES[0], seconds=2)])
    videos = [*odd_files.values(), clip]
    with Engine(open_archive(tmp_path / "archive"), EngineOptions(device="cpu"), encoder=ColourEncoder()) as engine:
        summary = index_here(engine, videos, Listener())
        assert [outcome.status for outcome in summary.outcomes] == ["failed", "failed", "failed", "done"]
        for kind, outcome in zip(odd_files, summary.outcomes[:3], strict=True):
            assert f"this is {kind}" in (outcome.reason or "")
        assert [record.lasting for record in failures(engine.archive.folder)] == [False] * 3
        assert len(estimate_run(engine.archive, videos, EngineOptions()).unopenable) == 3


@pytest.mark.timeout(120)
def test_no_id_is_made_of_them(odd_files: dict[str, Path], tmp_path: Path) -> None:
    for kind, place in odd_files.items():
        for cache in (None, tmp_path / "cache"):
            with pytest.raises(VideoOpenError, match=kind):
                identify(place, cache=cache)
