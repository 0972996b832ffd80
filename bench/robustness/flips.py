"""Flip single bits, and zero stretches, in every file of an archive: is any answer silently another one?

``python -m bench.robustness.flips [--flips 5000] [--zeroed 500] [--backend faiss lancedb] [--seed 0] [--out FILE]``

An archive of small videos with features is made once for each backend, with the bundled models. Half of the flips
are drawn uniformly over the bytes of all files, half over the files. After each change the archive is opened
anew in this process (the models are kept) and asked three things: ``ask`` about one video, ``search`` over all, and the
list of videos. Where a file with features was changed, ``ask`` runs the fine stage. Size and times of the changed
file stay as they were, as when a disk loses a bit.

A result counts as *told* if it differs from the sound one and says so: an error of hybrid's own, a video named as not
searched or not readable, a stage with a reason or a note. Otherwise it is *silent*. Any other exception is a *crash*.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.command import make_parser, run_command
from bench.report import print_table, write_result
from bench.robustness.small_videos import write_small_videos
from hybrid.answers import Answer, SearchResult
from hybrid.clip.interface import FrameEncoder
from hybrid.engine import Engine
from hybrid.errors import HybridError
from hybrid.fine.interface import FineModel
from hybrid.options.engine import EngineOptions
from indexes.maintenance.build_ann import update_approximate
from indexes.open_archive import open_archive

__all__ = ["Change", "FlipTest", "draw_changes", "main"]

DEMO = Path(__file__).resolve().parent.parent.parent / "hybrid" / "demo" / "world.mp4"
QUESTIONS = ("When is the red circle visible?", "a blue square", "When is a green triangle left of a red circle?")
VIDEOS = 6
MOST_ZEROED = 4096
SETTINGS = EngineOptions(preset="tiny", device="cpu")


Seen = tuple[str, Any, list[str]]
"""The verb, what counts of its result, and what it says of damage."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one file: a bit, or a stretch that is zeroed.

    Attributes:
        file: its path below the archive's folder.
        offset: the byte.
        bit: which bit of it; None for a stretch.
        length: bytes that are zeroed; 0 for a bit.
    """

    file: str
    offset: int
    bit: int | None
    length: int = 0

    def apply(self, data: bytes) -> bytes:
        """The file's content after it."""
        changed = bytearray(data)
        if self.bit is not None:
            changed[self.offset] ^= 1 << self.bit
        else:
            end = min(self.offset + self.length, len(changed))
            changed[self.offset : end] = bytes(end - self.offset)
        return bytes(changed)


def draw_changes(sizes: dict[str, int], *, flips: int, zeroed: int, seed: int) -> Iterator[Change]:
    """Flips, half of them uniform over bytes and half over files, then zeroed stretches, uniform over files."""
    dice = np.random.default_rng(seed)
    names = sorted(name for name, size in sizes.items() if size)
    ends = np.cumsum([sizes[name] for name in names])
    for number in range(flips + zeroed):
        if number < flips and number % 2:
            at = int(dice.integers(ends[-1]))
            file = int(np.searchsorted(ends, at, side="right"))
            offset = at - (int(ends[file - 1]) if file else 0)
        else:
            file = int(dice.integers(len(names)))
            offset = int(dice.integers(sizes[names[file]]))
        if number < flips:
            yield Change(names[file], offset, int(dice.integers(8)))
        else:
            yield Change(names[file], offset, None, int(dice.integers(1, MOST_ZEROED)))


class FlipTest:
    """An archive, what it answers when it is sound, and what it answers after a change."""

    def __init__(self, folder: Path, backend: str) -> None:
        """Make the archive and load the models."""
        self._archive = folder / backend
        self._videos = write_small_videos([DEMO], folder / "videos", VIDEOS, seconds=3.0)
        with Engine.open(self._archive, preset="tiny", device="cpu", backend=backend) as engine:
            for video in self._videos:
                engine.index(video, features=True)
            update_approximate(engine.archive, from_frames=1)
            self._encoder: FrameEncoder = engine._models.encoder_for(None)
            self._scorer: FineModel = engine._models.fine_model()
        self.files = {
            path.relative_to(self._archive).as_posix(): path.read_bytes()
            for path in sorted(self._archive.rglob("*"))
            if path.is_file()
        }
        self._times = {name: os.stat(self._archive / name) for name in self.files}
        self._turn = itertools.count()
        self._sound = {(turn, fine): self._ask(turn, fine) for turn in range(VIDEOS) for fine in (False, True)}

    def try_change(self, change: Change) -> tuple[str, str]:
        """``same``, ``told``, ``silent`` or ``crash`` after a change, with what was seen; the change is undone."""
        turn, fine = next(self._turn) % VIDEOS, "features" in change.file
        self._write(change.file, change.apply(self.files[change.file]))
        try:
            return self._compare(self._ask(turn, fine), self._sound[turn, fine])
        except HybridError as exc:
            return "told", f"{type(exc).__name__}: {exc}"
        except Exception as exc:
            return "crash", f"{type(exc).__name__}: {exc}"
        finally:
            self._restore(change.file)

    def _ask(self, turn: int, fine: bool) -> list[Seen]:
        """What the three verbs give: name, what counts, and what is said of damage."""
        question = QUESTIONS[turn % len(QUESTIONS)]
        found: list[Seen] = []
        with Engine(open_archive(self._archive), SETTINGS, encoder=self._encoder, fine_model=self._scorer) as engine:
            remarks: list[str] = []
            manifests = list(engine.archive.manifests(on_damage=lambda _, error: remarks.append(str(error))))
            found.append(("list", [(m.video_id, m.source.path, m.frames, m.status) for m in manifests], remarks))
            for name, call in (
                ("ask", lambda: engine.ask(self._videos[turn], question, frames=8, fine=fine)),
                ("search", lambda: engine.search(question, top=12)),
            ):
                try:
                    result: Answer | SearchResult = call()
                except HybridError as exc:
                    found.append((name, None, [str(exc)]))
                    continue
                found.append((name, _what_counts(result), _remarks(result)))
        return found

    def _compare(self, found: Sequence[Seen], sound: Sequence[Seen]) -> tuple[str, str]:
        outcome, seen = "same", ""
        for (name, counts, remarks), (_, right, usual) in zip(found, sound, strict=True):
            if counts == right:
                continue
            news = [remark for remark in remarks if remark not in usual]
            if not news:
                return "silent", f"{name}: {counts!r:.200} instead of {right!r:.200}"
            outcome, seen = "told", news[0]
        return outcome, seen

    def _write(self, name: str, data: bytes) -> None:
        path, times = self._archive / name, self._times[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _restore(self, name: str) -> None:
        self._write(name, self.files[name])
        there = {path.relative_to(self._archive).as_posix() for path in self._archive.rglob("*") if path.is_file()}
        for extra in there - self.files.keys():
            (self._archive / extra).unlink()
        for other, data in self.files.items():
            path = self._archive / other
            if other not in there or path.stat().st_mtime_ns != self._times[other].st_mtime_ns:
                self._write(other, data)


def _what_counts(result: Answer | SearchResult) -> Any:
    document = result.to_dict()
    for stage in document.pop("stages"):
        del stage
    return document


def _remarks(result: Answer | SearchResult) -> list[str]:
    """What a result says of things that are not as they should be."""
    remarks = [note for stage in result.stages for note in (*stage.notes, stage.fallback_reason) if note]
    remarks += [f"{stage.name} did not run" for stage in result.stages if not stage.ran and stage.fallback_reason]
    if isinstance(result, SearchResult):
        remarks += [skipped.reason for skipped in result.skipped]
        remarks += [found.gone for found in result.videos if found.gone]
    return remarks


def run(backend: str, flips: int, zeroed: int, seed: int, folder: Path) -> dict[str, Any]:
    """Everything for one backend."""
    test = FlipTest(folder, backend)
    sizes = {name: len(data) for name, data in test.files.items()}
    counts: dict[str, Counter[str]] = {"flip": Counter(), "zeroed": Counter()}
    wrong: list[dict[str, Any]] = []
    started = time.perf_counter()
    for change in draw_changes(sizes, flips=flips, zeroed=zeroed, seed=seed):
        outcome, seen = test.try_change(change)
        counts["zeroed" if change.length else "flip"][outcome] += 1
        if outcome in ("silent", "crash"):
            wrong.append({"file": change.file, "place": change.offset, "bit": change.bit, "length": change.length,
                          "outcome": outcome, "seen": seen})  # fmt: skip
            print(wrong[-1], file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started
    return {
        "backend": backend,
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "seconds": seconds,
        "outcomes": {kind: dict(counter) for kind, counter in counts.items()},
        "wrong": wrong,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--flips", type=int, default=5000, help="for each backend")
    parser.add_argument("--zeroed", type=int, default=500, help="for each backend")
    parser.add_argument("--backend", nargs="+", choices=["faiss", "lancedb"], default=["faiss", "lancedb"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    results = []
    folder = Path(tempfile.mkdtemp())
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for backend in arguments.backend:
            results.append(run(backend, arguments.flips, arguments.zeroed, arguments.seed, folder))
    rows = [
        (r["backend"], kind, *(counts.get(name, 0) for name in ("same", "told", "silent", "crash")))
        for r in results
        for kind, counts in r["outcomes"].items()
    ]
    print_table(["backend", "change", "same", "told", "silent", "crash"], rows)
    write_result("flips", {"seed": arguments.seed, "results": results}, arguments.out)


if __name__ == "__main__":
    run_command(main)
