"""``hybrid index``: index videos; what is indexed already costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.display.text import echo, print_json_line, report
from hybrid.cli.from_fields import Fields, Given
from hybrid.cli.input.paths import find_videos
from hybrid.cli.options import DEFAULT_ARCHIVE, BackendOption, JsonOption, NewArchiveOption, refuse_for_gens
from hybrid.cli.registry import Verb
from hybrid.errors import InputError
from hybrid.formatting import plural
from hybrid.options.engine import EngineOptions
from hybrid.options.index import RunOptions

if TYPE_CHECKING:
    from hybrid.cli.display.run_report import RunReport
    from hybrid.engine import Engine
    from hybrid.engine.batch.run import RunSummary

__all__ = ["VERB", "index_videos"]

EXIT_INTERRUPTED = 130


def index(
    options: RunOptions,
    engine: Annotated[Given[EngineOptions], Fields(without=("constrained",))],
    paths: Annotated[list[str] | None, typer.Argument(help="Videos, folders (searched), or quoted patterns.")] = None,
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    backend: BackendOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what it would take: hours, frames, disk, time.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Index videos. What is indexed already, with the same settings, costs nothing.

    A video that fails does not end the run; the exit code is then 1. A video whose content is to
    blame is not tried again by the next run, unless with --retry-failed.
    """
    if not paths and not options.retry_failed:
        raise InputError("say which videos: files, folders or quoted patterns")
    if options.features is False:
        why = "--no-features leaves it out; leave out --no-features"
        refuse_for_gens(why, EngineOptions, engine.values, but=("sampler",))
    elif options.features is None and "sampler" not in engine.values:
        why = "index loads it only where it makes features; add --features or --sampler"
        refuse_for_gens(why, EngineOptions, engine.values)
    settings = engine.read()  # refuses what is not legal, before anything is looked at or made
    videos = _find_videos(paths, as_json=as_json) if paths else _failed_videos(archive, forget_missing=not dry_run)
    if dry_run:
        _estimate(archive, videos, settings, options, backend, as_json=as_json)
    else:
        index_videos(archive, videos, settings, options, backend=backend, as_json=as_json)


VERB = Verb("index", index)


def index_videos(
    archive: str,
    videos: list[Path],
    settings: EngineOptions,
    options: RunOptions,
    *,
    backend: str | None = None,
    as_json: bool = False,
) -> None:
    """Index videos, and print how it goes; see :func:`index`."""
    from hybrid.cli.display.run_report import RunReport, print_summary
    from hybrid.engine import Engine
    from hybrid.engine.batch.workers import choose_workers
    from hybrid.runtime import choose_device
    from indexes.open_archive import open_archive

    on_gpu = choose_device(settings.device).type != "cpu"
    engine = Engine(open_archive(archive, backend=backend), settings)
    workers = choose_workers(len(videos), on_gpu=on_gpu) if options.workers is None else options.workers
    with engine, RunReport(workers=workers, videos=len(videos), as_json=as_json) as report:
        summary = _run(engine, options, videos, report, workers=workers)
        if summary.stopped_by is None and not summary.interrupted:
            _refresh_approximate(engine, options.approximate_from, as_json=as_json)
    print_summary(archive, summary, as_json=as_json)
    if summary.stopped_by is not None:
        if summary.videos > 1:
            echo(
                "stopped, because this would meet every further video; what was finished is kept, the same command "
                "goes on from there",
                err=True,
            )
        raise summary.stopped_by
    if summary.interrupted:
        echo("stopped; what was finished is kept, the same command goes on from there", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.failed:
        raise typer.Exit(1)


def _run(engine: Engine, options: RunOptions, videos: list[Path], report: RunReport, *, workers: int) -> RunSummary:
    from hybrid.engine.batch.run import index_here
    from hybrid.engine.batch.worker_process import EngineRecipe
    from hybrid.engine.batch.workers import index_in_workers

    if workers == 0:
        return index_here(engine, videos, report, features=options.features, retry_failed=options.retry_failed)
    recipe = EngineRecipe(
        engine.archive.uri, engine.settings, features=options.features, retry_failed=options.retry_failed
    )
    return index_in_workers(recipe, videos, report, workers=workers)


def _refresh_approximate(engine: Engine, from_frames: int | None, *, as_json: bool) -> None:
    """Have the approximate index take in what is new; if that fails, the videos are indexed all the same."""
    from hybrid.errors import HybridError
    from indexes.format.location import is_remote

    try:
        updates = engine.refresh_approximate(from_frames=from_frames)
    except HybridError as exc:
        echo(f"the approximate index was not brought up to date: {exc}", err=True)
        return
    if from_frames is not None and not updates and not as_json:
        why = "an archive in an object store has none" if is_remote(engine.archive.uri) else "it has fewer frames"
        echo(f"approximate index: nothing was made, {why}; all is searched exactly")
    for update in updates:
        if as_json:
            print_json_line(event="approximate", **update.to_dict())
        elif update.note is not None:
            if from_frames is not None:  # whoever asked for it wonders
                echo(f"approximate index: no frames are in it: {update.note}; all are searched exactly")
        elif update.trained or update.segments_added or update.segments_removed:
            echo(
                f"approximate index: it holds {update.covered_frames} of {plural(update.frames, 'frame')} of "
                f"{update.dimension} values, the others are searched exactly"
            )


def _find_videos(paths: list[str], *, as_json: bool) -> list[Path]:
    """The videos that the arguments stand for; prints what was passed over in folders."""
    found = find_videos(paths)
    over = found.passed_over
    if over:
        report(over.line(), err=True, as_json=as_json, event="passed_over", **over.to_dict())
    return found.videos


def _failed_videos(archive: str, *, forget_missing: bool) -> list[Path]:
    """The videos that the archive has a record of having failed; records of missing ones may be deleted."""
    from indexes.format.failures import failures, forget_failure
    from indexes.open_archive import open_archive

    videos = []
    with open_archive(archive, create=False) as opened:
        for failure in failures(opened.folder):
            if Path(failure.path).exists():
                videos.append(Path(failure.path))
            elif forget_missing:
                forget_failure(opened.folder, failure.video_id, failure.path, drop=opened.drop_file)
    return videos


def _estimate(
    archive: str,
    videos: list[Path],
    settings: EngineOptions,
    options: RunOptions,
    backend: str | None,
    *,
    as_json: bool,
) -> None:
    from hybrid.cli.display.run_report import print_estimate
    from hybrid.engine.batch.estimate import estimate_run
    from hybrid.errors import ArchiveFormatError
    from indexes.format.location import is_remote, local_folder
    from indexes.open_archive import open_archive

    try:
        with open_archive(archive, backend=backend, create=False) as opened:
            estimate = estimate_run(opened, videos, settings, features=options.features)
    except ArchiveFormatError:
        if not is_remote(archive) and local_folder(archive).is_dir() and any(local_folder(archive).iterdir()):
            raise
        estimate = estimate_run(None, videos, settings, features=options.features)
    print_estimate(estimate, as_json=as_json)
