"""Index many videos in processes of their own, so that a video that brings one down fails alone.

Processes are spawned, not forked: neither CUDA nor LanceDB survives a fork. A worker gets one video
at a time; the parent only listens, so it needs no model. A worker whose process dies, or that shows
no sign of life while it decodes, costs its video and is replaced.

A worker that is alone is also told which videos come next, and decodes them ahead. Where it dies
meanwhile, any of them may be to blame: they are then done again, without any other beside them.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from hybrid.engine.batch.run import WAIT_SECONDS, RunListener, RunSummary, VideoOutcome, failed_outcome, note_failure
from hybrid.engine.batch.worker_process import EngineRecipe, run_worker
from hybrid.engine.frames.decode_ahead import MAX_PREFETCHED_VIDEOS
from hybrid.errors import HybridError, InputError, ModelError

__all__ = ["choose_workers", "index_in_workers"]

STALL_SECONDS = 600.0
"""A worker that decodes and embeds nothing for so long is taken for stuck."""

_WATCHED = {"embed": 1.0, "hash": 6.0, "open": 6.0}
"""The stages in which a worker may get stuck in its video, and how many times as long each may be silent. The whole
file is read when it is hashed, and may be when it is opened, without a word in between."""

_SLOWEST_READ = 10e6
"""Bytes a second: for reading the whole file so much more time is given, so that a large one on a slow disk is not
taken for stuck."""

_LOOK_SECONDS = 1.0
"""So often the workers are looked at. What lies longer between two looks was time in which this process was stopped,
or kept from its work, and a worker may have shown any number of signs that were not seen."""

_CORES_EACH = 4
_MOST_WORKERS = 8
_MOST_STARTS = 3
"""So many workers may end one after another before they have begun a video; then starting more is in vain."""

_FROM_OUTSIDE = frozenset({-signal.SIGTERM, -signal.SIGINT, -1, -9})  # the last two have no names on every system
"""Exit codes of a process that somebody else ended: an administrator, a batch system, the kernel for want of memory."""


def choose_workers(videos: int, *, cores: int | None = None, on_gpu: bool = False) -> int:
    """How many processes to index so many videos with: one for each four cores, at most eight.

    A worker decodes in threads and embeds in threads, so fewer cores than that would only be
    divided. Beside a GPU there are two at least: a short video is decoded before it is embedded, and
    the GPU would wait for it if no other video were under way. A single video needs no process of
    its own: 0.

    >>> choose_workers(1, cores=16), choose_workers(9, cores=2), choose_workers(9, cores=16)
    (0, 1, 4)
    >>> choose_workers(9, cores=4, on_gpu=True)
    2
    """
    if videos < 2:
        return 0
    least = 2 if on_gpu else 1
    return max(least, min(_MOST_WORKERS, (cores or os.cpu_count() or 1) // _CORES_EACH, videos))


def index_in_workers(
    recipe: EngineRecipe,
    videos: Sequence[Path],
    listener: RunListener,
    *,
    workers: int,
    stall_seconds: float = STALL_SECONDS,
) -> RunSummary:
    """Index videos in spawned processes. The program that calls this must guard its main module.

    Args:
        recipe: what each worker opens.
        videos: in the order in which they are to be begun.
        listener: is told in this process.
        workers: at least 1.
        stall_seconds: when a worker is taken for stuck.

    Raises:
        InputError: ``workers`` is below 1.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1 process")
    pool = _WorkerPool(recipe, videos, listener, min(workers, max(1, len(videos))), stall_seconds)
    started = time.perf_counter()
    interrupted, stopped_by = False, None
    try:
        pool.work()
    except KeyboardInterrupt:
        interrupted = True
    except HybridError as exc:
        stopped_by = exc
    finally:
        pool.end()
    return RunSummary(
        tuple(pool.outcomes), len(videos), time.perf_counter() - started, interrupted=interrupted, stopped_by=stopped_by
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """A video that is to be indexed.

    Attributes:
        video: which.
        wait_seconds: how long to wait for another process that writes it.
        alone: no other video may be decoded beside it, so that it is clear which one ends a process.
        again: a process that indexed it was ended from outside.
    """

    video: Path
    wait_seconds: float = 0.0
    alone: bool = False
    again: bool = False


@dataclass(slots=True)
class _Worker:
    """One process, as the parent sees it. It may decode the next ``following`` ones while it does its ``task``.

    Attributes:
        begun: whether it has begun with its task.
        size_bytes: of the file that it reads, once it has said so.
        stage: of its work; the file is read first.
        silent: for how many seconds of looking it has shown no sign of life.
    """

    slot: int
    process: SpawnProcess
    connection: Connection
    task: _Task | None = None
    following: int = 0
    begun: bool = False
    size_bytes: int = 0
    stage: str = ""
    began: float = 0.0
    silent: float = 0.0


class _WorkerPool:
    def __init__(
        self, recipe: EngineRecipe, videos: Sequence[Path], listener: RunListener, workers: int, stall_seconds: float
    ) -> None:
        self.outcomes: list[VideoOutcome] = []
        self._recipe = recipe
        self._listener = listener
        self._count = workers
        self._stall_seconds = stall_seconds
        self._todo = deque(_Task(video) for video in videos)
        self._workers: dict[int, _Worker] = {}
        self._idle_deaths = 0

    def work(self) -> None:
        """Until nothing is left to do."""
        for slot in range(self._count):
            self._start(slot)
        looked = time.monotonic()
        while self._workers:
            sources = {worker.connection: worker for worker in self._workers.values()}
            for ready in wait(list(sources), timeout=_LOOK_SECONDS):
                self._receive(sources[ready])  # type: ignore[index]
            now = time.monotonic()
            for worker in list(self._workers.values()):
                worker.silent += min(now - looked, _LOOK_SECONDS)
                self._look_at(worker)
            looked = now

    def end(self) -> None:
        """Stop all that still work: what they have committed is safe, the rest is not acknowledged."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _start(self, slot: int) -> None:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self._count)
        process = context.Process(
            target=run_worker,
            args=(self._recipe, theirs, threads if self._count > 1 else None),
            name=f"hybrid-index-{slot}",
        )
        process.start()
        theirs.close()
        self._workers[slot] = _Worker(slot, process, mine)

    def _receive(self, worker: _Worker) -> None:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker, None)
            return
        worker.silent = 0.0
        if kind == "progress":
            name, arguments = content
            if name == "stage":
                worker.stage = arguments[0]
            getattr(self._listener.progress(worker.slot), name)(*arguments)
        elif kind == "begun":
            worker.begun = True
        elif kind == "size":
            worker.size_bytes = content
        elif kind == "stop":
            raise content
        elif kind == "ready":
            self._give(worker)
        else:
            self._ended(worker, content)
            self._give(worker)

    def _ended(self, worker: _Worker, outcome: VideoOutcome | None) -> None:
        task, worker.task, worker.stage = worker.task, None, ""
        if outcome is None and task is not None:
            self._todo.append(replace(task, wait_seconds=WAIT_SECONDS))
        elif outcome is not None:
            self._idle_deaths = 0
            self.outcomes.append(outcome)
            self._listener.outcome(outcome)

    def _give(self, worker: _Worker) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death shows at the next look
            if self._todo:
                task = worker.task = self._todo.popleft()
                following = self._following(task)
                worker.following = len(following)
                worker.begun, worker.stage, worker.size_bytes = False, "hash", 0
                worker.began, worker.silent = time.monotonic(), 0.0
                worker.connection.send((str(task.video), following, task.wait_seconds))
                return
            worker.connection.send(None)
        if worker.task is None:
            self._workers.pop(worker.slot)
            worker.process.join()
            worker.connection.close()

    def _following(self, task: _Task) -> list[str]:
        """What the worker may decode ahead: only where no other worker could take it first."""
        if self._count > 1 or task.alone:
            return []
        ahead = itertools.islice(self._todo, MAX_PREFETCHED_VIDEOS)
        return [str(each.video) for each in itertools.takewhile(lambda each: not each.alone, ahead)]

    def _look_at(self, worker: _Worker) -> None:
        patience = self._patience(worker)
        if patience is not None and worker.silent > patience:
            done = "decoded" if worker.stage == "embed" else "read"
            worker.process.kill()
            self._lost(worker, f"nothing of it could be {done} for {patience:.0f} s, so it was given up")

    def _patience(self, worker: _Worker) -> float | None:
        """For how many seconds a worker may be silent; None where it does not show whether it is stuck."""
        times = _WATCHED.get(worker.stage)
        if worker.task is None or times is None:
            return None
        return self._stall_seconds * times + (worker.size_bytes / _SLOWEST_READ if times > 1 else 0.0)

    def _lost(self, worker: _Worker, reason: str | None) -> None:
        """A worker has ended that should not have: its video has failed, and another worker takes over."""
        worker.process.join()
        worker.connection.close()
        self._workers.pop(worker.slot, None)
        code, task = worker.process.exitcode, worker.task
        if task is None or not worker.begun:
            self._idle_deaths += 1
            if self._idle_deaths >= _MOST_STARTS:
                raise ModelError(f"the processes that index end before they begin a video ({_describe(code)})")
        if task is None:
            pass
        elif not worker.begun or (worker.following and reason is None):
            # What it decoded ahead may have ended it, also before it came to its task.
            suspects = [task, *(self._todo.popleft() for _ in range(worker.following))]
            self._todo.extendleft(replace(each, alone=True) for each in reversed(suspects))
            self._listener.progress(worker.slot).finish("failed")
        elif code == -signal.SIGTERM and reason is None and not task.again:
            # Whoever ended it did not mean the video, and would have ended the run if that was meant.
            self._todo.appendleft(replace(task, again=True))
            self._listener.progress(worker.slot).finish("failed")
        else:
            why = reason or f"the process that indexed it ended ({_describe(code)})"
            outcome = failed_outcome(task.video, f"{task.video}: {why}", time.monotonic() - worker.began)
            # One that could not be read here would not be read by this process either: it is noted by its path.
            lasting = code not in _FROM_OUTSIDE and reason is None
            self._note(task.video, outcome, lasting=lasting, read=worker.stage != "hash")
            self._ended(worker, outcome)
            self._listener.progress(worker.slot).finish("failed")
        if self._todo:
            self._start(worker.slot)

    def _note(self, video: Path, outcome: VideoOutcome, *, lasting: bool, read: bool) -> None:
        from hybrid.engine.engine import Engine
        from indexes.open_archive import open_archive

        with Engine(open_archive(self._recipe.archive), self._recipe.settings) as engine:
            note_failure(engine, video, outcome.reason or "", lasting=lasting, read=read)


def _describe(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
