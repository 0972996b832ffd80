"""Progress for people (a bar) and for machines (JSON lines)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from hybrid.cli.text import printable, terminal

__all__ = ["BarProgress", "JsonProgress", "print_json", "print_json_line"]


def print_json(document: Any, *, indent: int | None = None, err: bool = False) -> None:
    """A JSON document in ASCII on standard output, or standard error, at once."""
    # DEL is the one character that a terminal may obey and JSON need not escape.
    text = json.dumps(document, indent=indent).replace("\x7f", "\\u007f")
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def print_json_line(**fields: Any) -> None:
    """One JSON object on a line of its own, at once."""
    print_json(fields)


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "")


class BarProgress:
    """A bar with stage, frames, frames per second and the time that is left; on standard error."""

    def __init__(self) -> None:
        console = terminal(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]:>6}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}"),
            _FramesPerSecond(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # Into a file or a pipe a bar would only write empty lines.
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, stage="", visible=False)

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._bar.reset(self._task, total=None, description=printable(Path(video).name), visible=True)

    def expect(self, frames: int | None) -> None:
        """How many samples the video has."""
        self._bar.update(self._task, total=frames)

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._bar.update(self._task, stage=name)

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        self._bar.advance(self._task, frames)

    def finish(self, outcome: str) -> None:
        """Work on the video has ended."""
        self._bar.update(self._task, visible=False)

    def __enter__(self) -> BarProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class JsonProgress:
    """A JSON line about once a second, and one at each change of stage."""

    def __init__(self, *, every_seconds: float = 1.0) -> None:
        self._every = every_seconds
        self._video = ""
        self._total: int | None = None
        self._done = 0
        self._stage = ""
        self._began = self._told = time.monotonic()

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._video, self._total, self._done = video, None, 0
        print_json_line(event="start", video=video)

    def expect(self, frames: int | None) -> None:
        """How many samples the video has."""
        self._total = frames
        self._began = self._told = time.monotonic()

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._stage = name
        print_json_line(event="stage", video=self._video, stage=name, frames_total=self._total)

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        self._done += frames
        now = time.monotonic()
        if now - self._told < self._every:
            return
        self._told = now
        speed = self._done / max(now - self._began, 1e-9)
        left = None if self._total is None else max(0.0, (self._total - self._done) / speed)
        print_json_line(
            event="progress",
            video=self._video,
            stage=self._stage,
            frames=self._done,
            frames_total=self._total,
            frames_per_second=round(speed, 2),
            left_seconds=None if left is None else round(left, 1),
        )

    def finish(self, outcome: str) -> None:
        """Work on the video has ended; the verb prints the result itself."""

    def __enter__(self) -> JsonProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()
