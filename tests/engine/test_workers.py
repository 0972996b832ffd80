"""Indexing in processes of their own: a video that ends its process fails alone, and nothing is left running."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from hybrid.engine.batch.run import VideoOutcome
from hybrid.engine.batch.worker_process import EngineRecipe
from hybrid.engine.batch.workers import (
    _WATCHED,
    _Task,
    _Worker,
    _WorkerPool,
    choose_workers,
    index_in_workers,
)
from hybrid.errors import InputError, ModelLoadError
from hybrid.options.engine import EngineOptions
from hybrid.progress import NullProgress
from indexes.format.failures import failures
from indexes.open_archive import open_archive
from tests.demo_clip import DEMO_SCENES, write_demo_clip
from tests.engine.deadly_worker import work_and_die, work_and_die_between
from tests.engine.held_worker import work_and_hold, work_and_read_for_ever
from tests.forked import fork_server


class Watching(NullProgress):
    """Does something when a video has come to a stage."""

    def __init__(self, at: Callable[[str, str], None]) -> None:
        self._at = at
        self._video = ""

    def start(self, video: str) -> None:
        self._video = video

    def stage(self, name: str) -> None:
        self._at(self._video, name)


class Listener:
    def __init__(self, at: Callable[[str, str], None] = lambda video, stage: None) -> None:
        self.outcomes: list[VideoOutcome] = []
        self.workers: set[int] = set()
        self._at = at
        self._told: dict[int, Watching] = {}

    def progress(self, worker: int) -> Watching:
        self.workers.add(worker)
        return self._told.setdefault(worker, Watching(self._at))

    def outcome(self, outcome: VideoOutcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    made = [write_demo_clip(folder / f"{number}.mp4", [replace(DEMO_SCENES[number], seconds=3)]) for number in range(3)]
    bad = folder / "bad.mp4"
    bad.write_text("This is no video.")
    return [made[0], bad, *made[1:]]


@pytest.fixture
def recipe(clip_folder: Path, tmp_path: Path) -> EngineRecipe:
    open_archive(tmp_path / "archive").close()
    return EngineRecipe(str(tmp_path / "archive"), EngineOptions(encoder=f"local-dir:{clip_folder}", device="cpu"))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked from a server, which is faster than the spawning of what is installed."""
    server = fork_server()
    monkeypatch.setattr("hybrid.engine.batch.workers.multiprocessing.get_context", lambda _: server)


@pytest.fixture
def hold(forked: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``hold("1.mp4")``: the worker that embeds this video stays in it."""

    def choose(video: str) -> None:
        monkeypatch.setattr("hybrid.engine.batch.workers.run_worker", partial(work_and_hold, video))

    return choose


def kill_workers() -> None:
    end_workers(signal.SIGKILL)


def end_workers(how: signal.Signals) -> None:
    for process in workers_alive():
        assert process.pid is not None
        os.kill(process.pid, how)


def workers_alive() -> list[BaseProcess]:
    return [process for process in multiprocessing.active_children() if process.name.startswith("hybrid-index-")]


def no_worker_is_left() -> bool:
    return not workers_alive()


def test_how_many_workers() -> None:
    assert choose_workers(1, cores=64) == 0
    assert choose_workers(100, cores=1) == 1
    assert choose_workers(100, cores=16) == 4
    assert choose_workers(3, cores=64) == 3
    assert choose_workers(100, cores=128) == 8
    assert choose_workers(100, cores=4, on_gpu=True) == 2
    assert choose_workers(1, cores=4, on_gpu=True) == 0
    with pytest.raises(InputError, match="workers is 0"):
        index_in_workers(EngineRecipe("a", EngineOptions()), [], Listener(), workers=0)


def test_two_workers_do_what_one_process_does(clips: list[Path], recipe: EngineRecipe) -> None:
    listener = Listener()
    summary = index_in_workers(recipe, clips, listener, workers=2)
    assert summary.stopped_by is None
    assert {Path(outcome.video).name: outcome.status for outcome in summary.outcomes} == {
        "0.mp4": "done",
        "bad.mp4": "failed",
        "1.mp4": "done",
        "2.mp4": "done",
    }
    assert tuple(listener.outcomes) == summary.outcomes
    with open_archive(recipe.archive, create=False) as archive:
        assert len([archive.verify(manifest.video_id) for manifest in archive.manifests()]) == 3
    assert no_worker_is_left()


def test_a_video_that_ends_its_process_fails_alone(
    clips: list[Path], recipe: EngineRecipe, hold: Callable[[str], None]
) -> None:
    hold("1.mp4")

    def at(video: str, stage: str) -> None:
        if stage == "embed" and video.endswith("1.mp4"):
            kill_workers()

    good = [clip for clip in clips if clip.name != "bad.mp4"]
    summary = index_in_workers(recipe, good, Listener(at), workers=1)
    assert [outcome.status for outcome in summary.outcomes] == ["done", "failed", "done"]
    assert "signal SIGKILL" in (summary.failed[0].reason or "")
    (record,) = failures(Path(recipe.archive))
    assert not record.lasting  # the system may have ended it for want of memory
    assert no_worker_is_left()


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("deadly", ["0.mp4", "1.mp4", "2.mp4"])
def test_a_video_that_ends_the_process_while_it_is_decoded_ahead(
    clips: list[Path], recipe: EngineRecipe, monkeypatch: pytest.MonkeyPatch, deadly: str
) -> None:
    """The one that was being embedded is not to blame."""
    monkeypatch.setattr("hybrid.engine.batch.workers.run_worker", partial(work_and_die, deadly))
    good = [clip for clip in clips if clip.name != "bad.mp4"]
    summary = index_in_workers(recipe, good, Listener(), workers=1)
    assert {Path(outcome.video).name: outcome.status == "failed" for outcome in summary.outcomes} == {
        clip.name: clip.name == deadly for clip in good
    }
    # One that was stored when the process ended, and not yet said to be, is found done.
    assert {outcome.status for outcome in summary.outcomes} <= {"done", "skipped", "failed"}
    assert len(summary.outcomes) == 3
    (record,) = failures(Path(recipe.archive))
    assert (Path(record.path).name, record.lasting) == (deadly, True)
    # The next run leaves it alone, also ahead.
    assert summary.failed[0].reason in [
        outcome.reason for outcome in index_in_workers(recipe, good, Listener(), workers=1).outcomes
    ]
    assert no_worker_is_left()


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_ends_between_two_videos_costs_none(
    clips: list[Path], recipe: EngineRecipe, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("hybrid.engine.batch.workers.run_worker", work_and_die_between)
    good = [clip for clip in clips if clip.name != "bad.mp4"]
    good += [Path(shutil.copy(clip, Path(recipe.archive).parent / f"copy-{clip.name}")) for clip in good]
    summary = index_in_workers(recipe, good, Listener(), workers=workers)
    assert summary.stopped_by is None
    assert {Path(outcome.video) for outcome in summary.outcomes} == set(good)
    assert summary.counts()["failed"] == 0
    assert list(failures(Path(recipe.archive))) == []


def test_a_worker_that_is_ended_from_outside_does_its_video_again(
    clips: list[Path], recipe: EngineRecipe, hold: Callable[[str], None]
) -> None:
    hold("0.mp4")
    ended: list[str] = []

    def at(video: str, stage: str) -> None:
        if stage == "embed" and not ended:
            ended.append(video)
            hold("no video")  # the next worker goes through
            end_workers(signal.SIGTERM)

    summary = index_in_workers(recipe, clips[:1], Listener(at), workers=1)
    assert ended
    assert [outcome.status for outcome in summary.outcomes] == ["done"]
    assert list(failures(Path(recipe.archive))) == []


def test_a_video_whose_workers_are_ended_from_outside_is_not_to_blame(
    clips: list[Path], recipe: EngineRecipe, hold: Callable[[str], None]
) -> None:
    hold("0.mp4")
    ended: list[str] = []

    def at(video: str, stage: str) -> None:
        if stage == "embed":
            ended.append(video)
            end_workers(signal.SIGTERM)

    summary = index_in_workers(recipe, clips[:1], Listener(at), workers=1)
    assert len(ended) == 2
    assert [outcome.status for outcome in summary.outcomes] == ["failed"]
    assert "signal SIGTERM" in (summary.failed[0].reason or "")
    (record,) = failures(Path(recipe.archive))
    assert not record.lasting  # the next run tries it again


def test_a_video_that_gets_stuck_is_given_up(
    clips: list[Path], recipe: EngineRecipe, hold: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold("0.mp4")
    # A busy machine may take longer than the test waits before the video is in its hold.
    for stage in ("hash", "open"):
        monkeypatch.setitem(_WATCHED, stage, 100.0)
    stopped: list[int] = []

    def at(video: str, stage: str) -> None:
        if stage == "embed" and video.endswith("0.mp4"):
            (worker,) = workers_alive()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            stopped.append(worker.pid)

    # One video only: another might be slower than this, too.
    summary = index_in_workers(recipe, clips[:1], Listener(at), workers=1, stall_seconds=2.0)
    assert stopped
    assert [outcome.status for outcome in summary.outcomes] == ["failed"]
    assert "given up" in (summary.failed[0].reason or "")
    assert no_worker_is_left()


def test_a_video_whose_reading_gets_stuck_is_given_up(
    clips: list[Path], recipe: EngineRecipe, monkeypatch: pytest.MonkeyPatch, forked: None
) -> None:
    monkeypatch.setattr("hybrid.engine.batch.workers.run_worker", partial(work_and_read_for_ever, "1.mp4"))

    class Impatient(Listener):
        """Waits for the reading of one video only: on a busy machine that of another might take longer."""

        def outcome(self, outcome: VideoOutcome) -> None:
            super().outcome(outcome)
            if len(self.outcomes) == 2:
                monkeypatch.setitem(_WATCHED, "hash", 0.02)

    good = [clip for clip in clips if clip.name != "bad.mp4"]
    summary = index_in_workers(recipe, good, Impatient(), workers=2, stall_seconds=200.0)
    assert {Path(outcome.video).name: outcome.status for outcome in summary.outcomes} == {
        "0.mp4": "done",
        "1.mp4": "failed",
        "2.mp4": "done",
    }
    assert "nothing of it could be read for 4 s" in (summary.failed[0].reason or "")
    (record,) = failures(Path(recipe.archive))
    assert (record.video_id, record.lasting) == (None, False)  # it was not read to note it
    assert no_worker_is_left()


def test_a_worker_that_nobody_listened_to_is_not_stuck(
    clips: list[Path], recipe: EngineRecipe, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent was stopped, or had much to do: meanwhile the worker did its work, and said so."""
    for stage in ("hash", "open"):
        monkeypatch.setitem(_WATCHED, stage, 100.0)
    waited = []

    def at(video: str, stage: str) -> None:
        if stage == "embed":
            waited.append(video)
            time.sleep(1.6)
            with open_archive(recipe.archive) as archive:
                while not list(archive.manifests()):
                    time.sleep(0.05)

    summary = index_in_workers(recipe, clips[:1], Listener(at), workers=1, stall_seconds=1.5)
    assert waited
    assert [outcome.status for outcome in summary.outcomes] == ["done"]


def test_a_large_file_may_be_read_for_long() -> None:
    crew = _WorkerPool(EngineRecipe("a", EngineOptions()), [], Listener(), 1, 600.0)
    worker = _Worker(0, None, None, task=_Task(Path("a.mp4")), size_bytes=10**12)  # type: ignore[arg-type]
    patience = {}
    for worker.stage in ("hash", "load", "open", "embed", "write"):
        patience[worker.stage] = crew._patience(worker)
    assert patience == {"hash": 103600.0, "load": None, "open": 103600.0, "embed": 600.0, "write": None}


def test_the_user_stops_it_and_goes_on(clips: list[Path], recipe: EngineRecipe, hold: Callable[[str], None]) -> None:
    hold("1.mp4")

    def at(video: str, stage: str) -> None:
        if stage == "embed" and video.endswith("1.mp4"):
            raise KeyboardInterrupt

    good = [clip for clip in clips if clip.name != "bad.mp4"]
    summary = index_in_workers(recipe, good, Listener(at), workers=1)
    assert summary.interrupted
    assert [outcome.status for outcome in summary.outcomes] == ["done"]
    assert no_worker_is_left()
    hold("no video")
    summary = index_in_workers(recipe, good, Listener(), workers=1)
    assert [outcome.status for outcome in summary.outcomes] == ["skipped", "done", "done"]


def test_a_worker_ends_with_its_parent() -> None:
    """It would otherwise write beside the next run."""
    script = Path(__file__).with_name("orphan_process.py")
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        # It would sleep for 600 s; the test's time is up before that.
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)


@pytest.mark.usefixtures("forked")
def test_a_model_that_cannot_be_loaded_ends_the_run(clips: list[Path], recipe: EngineRecipe, tmp_path: Path) -> None:
    broken = EngineRecipe(recipe.archive, EngineOptions(encoder=f"local-dir:{tmp_path / 'nothing'}", device="cpu"))
    summary = index_in_workers(broken, clips, Listener(), workers=1)
    assert isinstance(summary.stopped_by, ModelLoadError)
    assert summary.outcomes == ()
    assert no_worker_is_left()
