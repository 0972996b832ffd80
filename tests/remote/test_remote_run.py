"""``hybrid index`` into an object store: killed, run again, and then used from another machine."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybrid.cli.app import app
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from tests import forked
from tests.demo_clip import write_many_clips
from tests.forked import acknowledged_videos, fork_server
from tests.remote.conftest import Machine

VIDEOS = 3
KILLED_AFTER = (0, 1)
"""For each kill: of how many more videos the run has said that they are done."""


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many_clips(tmp_path_factory.mktemp("clips"), VIDEOS)


def command(environment: Mapping[str, str], arguments: list[str], output: str, hold_after: int | None) -> None:
    """In the process that is killed: its server was started with another environment."""
    os.environ.update(environment)
    forked._command(arguments, output, None, hold_after)


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and standard output of ``hybrid ARGUMENTS``, in this process."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def content(archive: str | Path) -> dict[str, tuple[str, str, str]]:
    with open_archive(archive, create=False) as opened:
        assert {finding.state for finding in verify_archive(opened)} <= {"sound", "unfinished"}
        return {m.video_id: (m.vectors_hash, m.timeline_hash, m.generation) for m in opened.manifests()}


def test_killed_run_again_and_used_elsewhere(
    uri: str, machine: Machine, many_clips: Path, clip_folder: Path, tmp_path: Path
) -> None:
    dice = random.Random(1)
    output = tmp_path / "output.jsonl"
    options = [str(many_clips), "--encoder", f"local-dir:{clip_folder}", "--device", "cpu", "--workers", "0", "--json"]
    environment = {name: os.environ[name] for name in os.environ if name.startswith(("AWS_", "HYBRID_"))}

    def start(hold_after: int) -> ForkServerProcess:
        output.write_bytes(b"")
        arguments = ["index", *options, "--archive", uri, "--backend", "lancedb"]
        process = fork_server().Process(target=command, args=(environment, arguments, str(output), hold_after))
        process.start()
        return process

    code, _ = run("index", *options, "--archive", str(tmp_path / "local"), "--backend", "faiss")
    assert code == 0
    expected = content(tmp_path / "local")
    assert len(expected) == VIDEOS

    acknowledged: set[str] = set()
    for planned in KILLED_AFTER:
        process = start(planned)
        while process.is_alive() and (
            not output.stat().st_size or len(acknowledged_videos(output, now=True)) < planned
        ):
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.5))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        acknowledged |= acknowledged_videos(output)
        held = content(uri)
        assert acknowledged <= set(held)
        assert all(expected[video] == held[video] for video in held)

    code, text = run("index", *options, "--archive", uri)
    assert code == 0, text
    assert content(uri) == expected
    with open_archive(uri) as archive:
        assert [key.video_id for key in archive.store.keys()] == sorted(expected)  # noqa: SIM118
        assert not [name for name, _ in archive.stored_files() if name.startswith("pending/")]

    machine("two")
    use_it(uri, many_clips, clip_folder)


def use_it(uri: str, videos: Path, clip_folder: Path) -> None:
    """Every verb, on a machine that has never seen the archive."""
    models = ["--encoder", f"local-dir:{clip_folder}", "--device", "cpu"]
    code, text = run("list", "--archive", uri, "--json")
    assert (code, len(text.splitlines())) == (0, VIDEOS)
    code, text = run("search", "a red circle", "--archive", uri, *models, "--top", "4", "--json")
    found = json.loads(text)
    assert (code, found["searched_videos"]) == (0, VIDEOS)
    assert found["skipped"] == []
    video = str(videos / "clip1.mp4")
    code, text = run("ask", video, "a red circle", "--archive", uri, *models, "--no-fine", "--json")
    assert code == 0
    answer = json.loads(text)
    assert answer["frames"]
    assert {stage["name"]: stage["ran"] for stage in answer["stages"]}["index"] is False
    code, text = run("stats", "--archive", uri, "--json")
    stock = json.loads(text)
    assert (code, stock["archive"], stock["statuses"]["done"]) == (0, uri, VIDEOS)
    code, text = run("verify", "--archive", uri)
    assert (code, text) == (0, f"{VIDEOS} videos with {stock['frames']} frames sound, 0 damaged\n")
    code, text = run("remove", video, "--archive", uri)
    assert (code, text) == (0, f"removed  {video}\n")
    code, text = run("list", "--archive", uri, "--json")
    assert (code, len(text.splitlines())) == (0, VIDEOS - 1)


def test_what_the_command_line_refuses(uri: str, many_clips: Path, clip_folder: Path) -> None:
    result = CliRunner().invoke(app, ["index", str(many_clips), "--archive", uri, "--backend", "faiss"])
    assert "there is no remote backend 'faiss'; legal are lancedb" in str(result.exception)
    result = CliRunner().invoke(app, ["list", "--archive", "gs://bucket/videos"])
    assert "legal are a folder, or s3://BUCKET/PREFIX" in str(result.exception)
    result = CliRunner().invoke(app, ["remove", "--gone", "--archive", uri])
    assert "may have been written from other machines" in str(result.exception)
