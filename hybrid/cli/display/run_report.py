"""How a run over many videos is shown: lines and bars for people, JSON lines for programs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from hybrid.cli.display.progress import Bars, JsonProgress
from hybrid.cli.display.text import clock, echo, print_json_line, report, size
from hybrid.formatting import plural

if TYPE_CHECKING:
    from hybrid.engine import IndexResult
    from hybrid.engine.batch.estimate import RunEstimate
    from hybrid.engine.batch.run import RunSummary, VideoOutcome
    from hybrid.progress import Progress

__all__ = ["RunReport", "print_estimate", "print_summary"]


class RunReport:
    """Shows a run as it goes. A context manager; see :class:`hybrid.engine.batch.run.RunListener`."""

    def __init__(self, *, workers: int, videos: int, as_json: bool) -> None:
        """For so many workers (0: this process) and videos."""
        self._as_json = as_json
        self._videos = videos
        self._ended = 0
        self._bars = None if as_json else Bars(max(1, workers))
        self._json: dict[int, Progress] = {}

    def progress(self, worker: int) -> Progress:
        """What receives the progress of one worker."""
        if self._bars is not None:
            return self._bars.row(worker)
        return self._json.setdefault(worker, JsonProgress())

    def outcome(self, outcome: VideoOutcome) -> None:
        """A video has ended."""
        self._ended += 1
        count = f" ({self._ended} of {self._videos})" if self._videos > 1 else ""
        if outcome.result is not None:
            _print_result(outcome, outcome.result, count, as_json=self._as_json)
            return
        before = " [failed before; --retry-failed tries again]" if outcome.remembered else ""
        facts = {"video": outcome.video, "error": outcome.reason, "remembered": outcome.remembered}
        report(f"failed   {outcome.reason}{before}", err=True, as_json=self._as_json, event="failed", **facts)

    def __enter__(self) -> RunReport:
        if self._bars is not None:
            self._bars.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.__exit__(kind, value, trace)


def _print_result(outcome: VideoOutcome, result: IndexResult, count: str, *, as_json: bool) -> None:
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
    echo(f"{result.outcome}{partial}  {result.video}: {frames}{took}{missing}{because}{note}{count}")
    if result.features:
        echo(f"          features of {plural(result.features, 'frame')} are stored for the sampler")
    if result.features_note:
        echo(f"          {result.features_note}", err=True)


def print_summary(archive: str, summary: RunSummary, *, as_json: bool) -> None:
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
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    echo(
        f"{indexed} of {plural(summary.videos, 'video')} indexed or up to date in {archive}"
        f"{f' ({listed})' if summary.videos > 1 else ''}",
        err=bool(failed),
    )
    if features and summary.videos > 1:
        echo(f"features of {plural(features, 'frame')} were made for the sampler", err=bool(failed))


def print_estimate(estimate: RunEstimate, *, as_json: bool) -> None:
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
