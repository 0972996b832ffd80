"""kill -9 while ``hybrid index`` runs, hundreds of times: what was acknowledged and is lost, doubled or unreadable.

``python -m bench.robustness.kills VIDEOS [--kills 200] [--backend faiss] [--workers 0] [--encoder NAME] [--out FILE]``

VIDEOS is a folder of many small videos (:mod:`bench.robustness.small_videos` makes some). Half of the kills
come at any moment of the work on one of the next two videos, half while one of them is being written.
After each, every byte of the archive is compared with the manifests, and those with what the killed runs
had acknowledged. When an archive is complete, the next is begun.
With ``--workers 2`` the run has processes of its own. A third of the kills then meet all of them at once, as when the
system ends a group; a third only the one that gave out the work, whose workers must end by themselves; and a
third one of the workers, which the run must survive.
Runs are started from a server that has the heavy libraries in memory, since starting Python takes far
longer than the work that is to be interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from hybrid.presets import PRESETS
from indexes.maintenance.verify import verify_archive
from indexes.open_archive import open_archive
from indexes.stores.registry import STORES

_TELL_EVERY = 10
_ORPHAN_SECONDS = 30.0
"""In which a worker whose run was killed must have ended."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--kills", type=int, default=200, help="for each backend")
    parser.add_argument("--backend", choices=STORES.names, action="append", help="may come twice; both if none")
    parser.add_argument("--workers", type=int, default=0, help="processes that index in each run; 0: only one in all")
    parser.add_argument("--encoder", help="by default the bundled small one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    results: dict[str, dict[str, Any]] = {}
    for backend in arguments.backend or STORES.names:
        with tempfile.TemporaryDirectory() as name:
            results[backend] = _Trial(Path(name), backend, arguments).run()
        print_table(["what", backend], [[key, value] for key, value in results[backend].items()])
        print(flush=True)
    write_result("kills", {"load_at_end": os.getloadavg()[2], "backends": results}, arguments.out)


class _Trial:
    """All kills of one backend."""

    def __init__(self, folder: Path, backend: str, arguments: argparse.Namespace) -> None:
        self._folder = folder
        self._backend = backend
        self._output = folder / "output.jsonl"
        self._kills = arguments.kills
        self._workers: int = arguments.workers
        self._dice = random.Random(f"{backend} {arguments.seed}")
        self._options = [str(arguments.videos), "--backend", backend, "--workers", str(arguments.workers), "--json"]
        self._options += ["--encoder", arguments.encoder or PRESETS["tiny"].encoder, "--device", "cpu"]
        self._server: ForkServerContext = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(["bench.robustness.preloaded"])

    def run(self) -> dict[str, Any]:
        """Kill, look, count."""
        started = time.monotonic()
        whole = self._folder / "whole"
        self._watch_one(whole)
        expected = _look_at(whole).hashes
        names = ("kills", "in_flight", "lost", "altered", "not_sound", "doubled", "orphans", "archives_completed")
        counts = dict.fromkeys(names, 0)
        archive, acknowledged = self._folder / "killed", set[str]()
        while counts["kills"] < self._kills:
            process = self._start(archive)
            self._await_moment(process)
            killed, orphans = self._kill(process)
            counts["kills"] += killed
            counts["orphans"] += orphans
            acknowledged |= self._acknowledged()
            found = _look_at(archive)
            held = found.hashes
            counts["in_flight"] += any((archive / "pending").glob("*"))
            counts["lost"] += len(acknowledged - set(held))
            counts["altered"] += sum(1 for video in held if held[video] != expected.get(video))
            counts["not_sound"] += found.damaged
            counts["doubled"] += found.doubled
            if counts["kills"] and counts["kills"] % _TELL_EVERY == 0:
                print(f"{time.strftime('%X')} {self._backend}: {counts}", flush=True)
            if set(held) == set(expected):
                counts["archives_completed"] += 1
                shutil.rmtree(archive)
                acknowledged = set()
        process = self._start(archive)
        process.join()
        found = _look_at(archive)
        counts["doubled"] += found.doubled
        return {
            **counts,
            "videos": len(expected),
            "seconds_a_video": round(self._seconds_each, 2),
            "seconds_a_write": round(self._write_seconds, 3),
            "completed_to_the_same": found.hashes == expected and not found.damaged,
            "workers": self._workers,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _start(self, archive: Path) -> ForkServerProcess:
        self._output.write_bytes(b"")
        process = self._server.Process(
            target=_index, args=([*self._options, "--archive", str(archive)], str(self._output))
        )
        process.start()
        return process

    def _kill(self, process: ForkServerProcess) -> tuple[bool, int]:
        """Kill a run, with its workers or without, or one of its workers only.

        Returns:
            whether a process was killed; how many workers did not end by themselves although they should have.
        """
        assert process.pid is not None
        killed, left = False, []
        with contextlib.suppress(psutil.NoSuchProcess):  # it has come to its end meanwhile
            processes = psutil.Process(process.pid).children(recursive=True) if self._workers else []
            workers = [each for each in processes if "spawn_main" in " ".join(each.cmdline())]
            whom = self._dice.choice(("group", "parent", "worker")) if workers else "parent"
            if whom == "worker":
                self._dice.choice(workers).kill()
                killed = True
                process.join()
                if process.exitcode not in (0, 1):
                    raise SystemExit(f"a run that lost a worker ended with exit code {process.exitcode}")
            else:
                process.kill()
                for each in processes if whom == "group" else []:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
                process.join()
                killed = process.exitcode == -signal.SIGKILL
            _, left = psutil.wait_procs(processes, timeout=_ORPHAN_SECONDS)
            for each in left:
                each.kill()
        process.join()
        return killed, len(left)

    def _watch_one(self, archive: Path) -> None:
        """How long the work on a video and its last part, writing, take in a run that nobody disturbs."""
        process = self._start(archive)
        self._await_lines(process, 1)
        began = time.monotonic()
        process.join()
        took = time.monotonic() - began
        done = [event for event in self._events() if event["event"] == "done"]
        self._lines_each = len(self._events()) // len(done)
        self._seconds_each = took / len(done)
        self._write_seconds = statistics.median(event["seconds"]["write"] for event in done)

    def _await_moment(self, process: ForkServerProcess) -> None:
        """Until a moment of this run that is drawn. By what it has said, so that a slow machine does not matter."""
        video = self._dice.randrange(2)
        if self._dice.random() < 0.5:
            line = video * self._lines_each + self._dice.randrange(self._lines_each)
            self._await_lines(process, line)
            time.sleep(self._dice.uniform(0, 2 * self._seconds_each / self._lines_each))
            return
        while process.is_alive() and sum(event.get("stage") == "write" for event in self._events()) <= video:
            time.sleep(0.002)
        time.sleep(self._dice.uniform(0, 1.5 * self._write_seconds))

    def _await_lines(self, process: ForkServerProcess, count: int) -> None:
        """Until it has said so many lines of videos that it did not find done."""
        while process.is_alive():
            events = self._events()
            found_done = {event["video"] for event in events if event.get("outcome") == "unchanged"}
            if sum(event.get("video") not in found_done for event in events) >= max(1, count):
                return
            time.sleep(0.005)

    def _events(self) -> list[dict[str, Any]]:
        """What the run has said; a line that is cut says nothing."""
        found = []
        for line in self._output.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def _acknowledged(self) -> set[str]:
        """Videos that the run said were done."""
        return {event["video_id"] for event in self._events() if event["event"] == "done"}


def _index(arguments: list[str], output: str) -> None:
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
    sys.argv = ["hybrid", "index", *arguments]
    from hybrid.cli import main as command_line

    command_line()


@dataclass(frozen=True, slots=True)
class _Look:
    """What an archive holds.

    Attributes:
        hashes: of the vectors and the timeline of every video that is held.
        damaged: videos whose stored bytes are not what was written (rows that are there twice are not either).
        doubled: videos with more than one set of vectors that no mark of unfinished work explains.
    """

    hashes: dict[str, tuple[str, str]]
    damaged: int
    doubled: int


def _look_at(archive: Path) -> _Look:
    if not (archive / "archive.json").exists():
        return _Look({}, 0, 0)
    with open_archive(archive, create=False) as opened:
        marked = {entry.name for entry in (archive / "pending").glob("*")}
        sets = Counter(key.video_id for key in opened.store.keys())  # noqa: SIM118 (a store is no dictionary)
        return _Look(
            {m.video_id: (m.vectors_hash, m.timeline_hash) for m in opened.manifests()},
            damaged=sum(1 for finding in verify_archive(opened) if finding.state == "damaged"),
            doubled=sum(1 for video_id, count in sets.items() if count > 1 and video_id not in marked),
        )


if __name__ == "__main__":
    run_command(main)
