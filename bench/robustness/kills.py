"""kill -9 while ``hybrid index`` runs, hundreds of times: what was acknowledged and is lost, doubled or unreadable.

``python -m bench.robustness.kills VIDEOS [--kills 200] [--backend faiss] [--encoder NAME] [--out FILE]``

VIDEOS is a folder of many small videos. A run is killed at a random moment between its first line and
the time that an undisturbed run takes; then every byte of the archive is compared with the manifests,
and those with what the killed runs had acknowledged. When an archive is complete, the next is begun.
Runs are started from a server that has the heavy libraries in memory, since starting Python takes far
longer than the work that is to be interrupted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from bench.report import circumstances, print_table, write_result
from hybrid.presets import encoder_of
from indexes.archive import Archive
from indexes.checkup import check_up


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--backend", choices=["faiss", "lancedb"], default="faiss")
    parser.add_argument("--encoder", help="by default the bundled small one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        result = _Trial(Path(name), arguments).run()
    print_table(["what", "count"], [[key, value] for key, value in result.items()])
    write_result({"benchmark": "kills", **circumstances(), "backend": arguments.backend, **result}, arguments.out)


class _Trial:
    """All kills of one backend."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self._folder = folder
        self._output = folder / "output.jsonl"
        self._kills = arguments.kills
        self._dice = random.Random(f"{arguments.backend} {arguments.seed}")
        self._options = [str(arguments.videos), "--backend", arguments.backend, "--workers", "0", "--json"]
        self._options += ["--encoder", arguments.encoder or encoder_of("tiny"), "--device", "cpu"]
        self._server: ForkServerContext = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(["bench.robustness.preloaded"])

    def run(self) -> dict[str, Any]:
        """Kill, look, count."""
        whole = self._folder / "whole"
        process = self._start(whole)
        began = self._first_line(process)
        process.join()
        took = time.monotonic() - began
        expected, _ = _content(whole)
        counts = dict.fromkeys(("kills", "in_flight", "lost", "altered", "not_sound", "archives_completed"), 0)
        archive, acknowledged = self._folder / "killed", set[str]()
        while counts["kills"] < self._kills:
            process = self._start(archive)
            self._first_line(process)
            time.sleep(self._dice.uniform(0, took))
            process.kill()
            process.join()
            counts["kills"] += process.exitcode == -signal.SIGKILL
            acknowledged |= self._acknowledged()
            held, bad = _content(archive)
            counts["in_flight"] += any((archive / "pending").glob("*"))
            counts["lost"] += len(acknowledged - set(held))
            counts["altered"] += sum(1 for video in held if held[video] != expected.get(video))
            counts["not_sound"] += bad
            if set(held) == set(expected):
                counts["archives_completed"] += 1
                shutil.rmtree(archive)
                acknowledged = set()
        process = self._start(archive)
        process.join()
        held, bad = _content(archive)
        with Archive.open(archive, create=False) as opened:
            keys = [key.video_id for key in opened.store.keys()]  # noqa: SIM118 (a store is no dictionary)
        return {
            **counts,
            "videos": len(expected),
            "undisturbed_run_s": round(took, 2),
            "completed_to_the_same": held == expected and not bad,
            "doubled": len(keys) - len(set(keys)),
        }

    def _start(self, archive: Path) -> ForkServerProcess:
        self._output.write_bytes(b"")
        process = self._server.Process(
            target=_index, args=([*self._options, "--archive", str(archive)], str(self._output))
        )
        process.start()
        return process

    def _first_line(self, process: ForkServerProcess) -> float:
        while process.is_alive() and not self._output.stat().st_size:
            time.sleep(0.005)
        return time.monotonic()

    def _acknowledged(self) -> set[str]:
        """Videos that the run said were done; a line that the kill cut says nothing."""
        done = set()
        for line in self._output.read_text().splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if event["event"] == "done":
                done.add(event["video_id"])
        return done


def _index(arguments: list[str], output: str) -> None:
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
    sys.argv = ["hybrid", "index", *arguments]
    from hybrid.cli import main as command_line

    command_line()


def _content(archive: Path) -> tuple[dict[str, tuple[str, str]], int]:
    """The hashes of every video that is held, and how many of them do not fit what is stored."""
    if not (archive / "archive.json").exists():
        return {}, 0
    with Archive.open(archive, create=False) as opened:
        bad = sum(1 for finding in check_up(opened) if finding.state == "damaged")
        return {m.video_id: (m.vectors_hash, m.timeline_hash) for m in opened.manifests()}, bad


if __name__ == "__main__":
    main()
