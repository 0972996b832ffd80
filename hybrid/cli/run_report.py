"""How a run over many videos is told: lines and bars for people, JSON lines for machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hybrid.cli.progress import BarProgress, JsonProgress, print_json_line
from hybrid.cli.text import clock, echo, printable, size, terminal
from hybrid.formatting import plural

if TYPE_CHECKING:
    from hybrid.engine import IndexResult
    from hybrid.engine.batch.estimate import RunEstimate
    from hybrid.engine.batch.run import RunSummary, VideoOutcome
    from hybrid.progress import Progress as Told

__all__ = ["RunReport", "tell_estimate", "tell_summary"]


class RunReport:
    """Tells of a run as it goes. A context manager; see :class:`hybrid.engine.batch.run.RunListener`."""

    def __init__(self, *, workers: int, videos: int, as_json: bool) -> None:
        """For so many workers (0: this process) and videos."""
        self._as_json = as_json
        self._videos = videos
        self._ended = 0
        self._rows: dict[int, Told] = {}
        self._shown: BarProgress | _Bars | None = None
        if not as_json:
            self._shown = BarProgress() if workers < 2 else _Bars(workers)

    def progress(self, worker: int) -> Told:
        """Who is told of the work of one worker."""
        if isinstance(self._shown, BarProgress):
            return self._shown
        if worker not in self._rows:
            self._rows[worker] = JsonProgress() if self._shown is None else self._shown.row(worker)
        return self._rows[worker]

    def outcome(self, outcome: VideoOutcome) -> None:
        """A video has ended."""
        self._ended += 1
        place = f" ({self._ended} of {self._videos})" if self._videos > 1 else ""
        if outcome.result is not None:
            _tell_result(outcome, outcome.result, place, as_json=self._as_json)
        elif self._as_json:
            print_json_line(event="failed", video=outcome.video, error=outcome.reason, remembered=outcome.remembered)
        else:
            before = " [failed before; --retry-failed tries again]" if outcome.remembered else ""
            echo(f"failed   {outcome.reason}{before}", err=True)

    def __enter__(self) -> RunReport:
        if self._shown is not None:
            self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.__exit__(kind, value, trace)


def _tell_result(outcome: VideoOutcome, result: IndexResult, place: str, *, as_json: bool) -> None:
    if as_json:
        print_json_line(
            event="done",
            **result.to_dict(),
            run_status=outcome.status,
            missing_seconds=round(outcome.missing_seconds, 3),
        )
        return
    seconds = sum(result.seconds.values())
    took = f" in {seconds:.1f} s ({result.frames / seconds:.1f} frames/s)" if seconds else ""
    because = f", changed: {'; '.join(result.changed)}" if result.changed else ""
    note = f" [{result.note}]" if result.note else ""
    partial = "" if result.status == "done" else f" ({result.status})"
    missing = f", {outcome.missing_seconds:.1f} s are missing" if outcome.missing_seconds else ""
    frames = plural(result.frames, "frame")
    echo(f"{result.outcome}{partial}  {result.video}: {frames}{took}{missing}{because}{note}{place}")
    if result.features:
        echo(f"          features of {plural(result.features, 'frame')} are stored for the sampler")
    if result.features_note:
        echo(f"          {result.features_note}", err=True)


def tell_summary(archive: str, summary: RunSummary, *, as_json: bool) -> None:
    """How the run ended."""
    counts, failed = summary.counts(), summary.failed
    features = sum(outcome.result.features for outcome in summary.outcomes if outcome.result is not None)
    if as_json:
        print_json_line(
            event="summary",
            archive=archive,
            videos=summary.videos,
            **{name: count for name, count in counts.items() if name != "failed"},
            failed=[outcome.video for outcome in failed],
            features=features,
            interrupted=summary.interrupted,
            seconds=round(summary.seconds, 3),
        )
        return
    indexed = len(summary.outcomes) - len(failed)
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    echo(
        f"{indexed} of {plural(summary.videos, 'video')} indexed or up to date in {archive}"
        f"{f' ({told})' if summary.videos > 1 else ''}",
        err=bool(failed),
    )
    if features and summary.videos > 1:
        echo(f"features of {plural(features, 'frame')} were made for the sampler", err=bool(failed))


def tell_estimate(estimate: RunEstimate, *, as_json: bool) -> None:
    """What a run would take."""
    if as_json:
        print_json_line(event="estimate", **estimate.to_dict())
        return
    left = estimate.videos - estimate.indexed - len(estimate.unopenable)
    echo(f"{left} of {plural(estimate.videos, 'video')} to be indexed, {estimate.indexed} indexed already")
    if estimate.replaced:
        changes = "; ".join(estimate.changes[:3]) + ("; ..." if len(estimate.changes) > 3 else "")
        echo(f"{estimate.replaced} of them have an index of another configuration, to be replaced: {changes}")
    for reason in estimate.unopenable:
        echo(f"cannot be opened: {reason}", err=True)
    time = "not known" if estimate.seconds is None else f"about {clock(estimate.seconds)} with one worker"
    echo(
        f"{estimate.hours:.2f} h, {plural(estimate.frames, 'frame')}, {size(estimate.disk_bytes)} on disk, time {time}"
    )
    echo(f"by {estimate.basis}")
    if estimate.features_note:
        echo(f"features: {estimate.features_note}", err=True)
    elif estimate.features:
        room = "" if estimate.feature_bytes is None else f", {size(estimate.feature_bytes)} more on disk"
        echo(f"features of {plural(estimate.features, 'frame')} are to be made for the sampler{room}; time not known")


class _Bars:
    """A bar for each worker; on standard error."""

    def __init__(self, workers: int) -> None:
        console = terminal(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[stage]:>6}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks = [self._bars.add_task("", total=None, stage="", visible=False) for _ in range(workers)]

    def row(self, worker: int) -> _Row:
        """The bar of one worker."""
        return _Row(self._bars, self._tasks[worker])

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()


class _Row:
    """One bar; see :class:`hybrid.progress.Progress`."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._update: Callable[..., None] = lambda **fields: bars.update(task, **fields)
        self._reset: Callable[..., None] = lambda **fields: bars.reset(task, **fields)
        self._step: Callable[[int], None] = lambda frames: bars.advance(task, frames)

    def start(self, video: str) -> None:
        """Work on a video begins."""
        self._reset(total=None, description=printable(Path(video).name), visible=True)

    def expect(self, frames: int | None) -> None:
        """How many samples the video has."""
        self._update(total=frames)

    def stage(self, name: str) -> None:
        """The stage that begins."""
        self._update(stage=name)

    def advance(self, frames: int) -> None:
        """So many more samples are embedded."""
        self._step(frames)

    def finish(self, outcome: str) -> None:
        """Work on the video has ended."""
        self._update(visible=False)
