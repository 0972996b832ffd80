"""Progress for people (bars) and for programs (JSON lines)."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from hybrid.cli.display.text import print_json_line, printable, terminal

__all__ = ["Bars", "JsonProgress"]


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "")


class Bars:
    """Progress bars on standard error, one a worker. A single one also shows the speed and the time that is left."""

    def __init__(self, rows: int = 1) -> None:
        console = terminal(stderr=True)
        speed = [_FramesPerSecond()] if rows == 1 else []
        left = [TextColumn("left"), TimeRemainingColumn()] if rows == 1 else []
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]:>6}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}"),
            *speed,
            TimeElapsedColumn(),
            *left,
            console=console,
            transient=True,
            # Into a file or a pipe a bar would only write empty lines.
            disable=not console.is_terminal,
        )
        self._rows = [_Row(self._bars) for _ in range(rows)]

    def row(self, index: int = 0) -> _Row:
        """One bar."""
        return self._rows[index]

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class _Row:
    """One bar; see :class:`hybrid.progress.Progress`."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=None, stage="", visible=False)

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._bars.reset(self._task, total=None, description=printable(Path(video).name), visible=True)

    def expect(self, frames: int | None) -> None:
        """How many samples the video has."""
        self._bars.update(self._task, total=frames)

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._bars.update(self._task, stage=name)

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        self._bars.advance(self._task, frames)

    def finish(self, outcome: str) -> None:
        """Work on the video has ended."""
        self._bars.update(self._task, visible=False)


class JsonProgress:
    """A JSON line about once a second, and one at each change of stage."""

    def __init__(self, *, every_seconds: float = 1.0) -> None:
        self._every = every_seconds
        self._video = ""
        self._total: int | None = None
        self._done = 0
        self._stage = ""
        self._began = self._reported = time.monotonic()

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._video, self._total, self._done = video, None, 0
        print_json_line(event="start", video=video)

    def expect(self, frames: int | None) -> None:
        """How many samples the video has."""
        self._total = frames
        self._began = self._reported = time.monotonic()

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._stage = name
        print_json_line(event="stage", video=self._video, stage=name, frames_total=self._total)

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        self._done += frames
        now = time.monotonic()
        if now - self._reported < self._every:
            return
        self._reported = now
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
