"""``hybrid index``: index videos; what is indexed already costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.options import (
    DEFAULT_ARCHIVE,
    DEFAULT_PRESET,
    BackendOption,
    BatchOption,
    DecoderOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    JsonOption,
    LoadingOption,
    NewArchiveOption,
    PresetOption,
    PromptOption,
    RateOption,
    SamplerOption,
    SamplingOption,
    check_without_gens,
)
from hybrid.cli.paths import find_videos
from hybrid.cli.text import echo
from hybrid.errors import InputError
from hybrid.formatting import plural

if TYPE_CHECKING:
    from hybrid.cli.run_report import RunReport
    from hybrid.engine import Engine
    from hybrid.engine.batch.run import RunSummary
    from hybrid.engine.batch.workers import EngineRecipe
    from hybrid.engine.settings import Settings

__all__ = ["index"]

EXIT_INTERRUPTED = 130


def index(
    paths: Annotated[list[str] | None, typer.Argument(help="Videos, folders (searched), or quoted patterns.")] = None,
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    preset: PresetOption = DEFAULT_PRESET,
    encoder: EncoderOption = None,
    sampler: SamplerOption = None,
    prompt: PromptOption = None,
    features: Annotated[
        bool | None,
        typer.Option(
            "--features/--no-features",
            help="Run the sampler's vision tower too, so that questions need no decoding; if not said, with --sampler.",
        ),
    ] = None,
    rate: RateOption = None,
    sampling: SamplingOption = None,
    backend: BackendOption = None,
    decoder: DecoderOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    loading: LoadingOption = None,
    batch_size: BatchOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that index at once; 0: this one. If not said, by cores and videos."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try videos again that failed before; without paths, only those.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take: hours, frames, disk, time.")
    ] = False,
    approximate_from: Annotated[
        int | None,
        typer.Option(
            "--approximate-from",
            help="Make an approximate index from so many frames on (default 1048576); one that is there is kept up.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Index videos. What is indexed already, with the same settings, costs nothing.

    A video that fails does not end the run; the exit code is then 1. A video whose content is to
    blame is not tried again by the next run, unless with --retry-failed.
    """
    from dataclasses import replace

    from hybrid.cli.run_report import RunReport, tell_summary
    from hybrid.engine import Engine
    from hybrid.engine.batch.workers import EngineRecipe, choose_workers
    from hybrid.engine.settings import Settings
    from hybrid.fine.prompt import read_prompt_file
    from hybrid.runtime import choose_device
    from indexes.open_archive import open_archive

    if not paths and not retry_failed:
        raise InputError("say which videos: files, folders or quoted patterns")
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; it must be 0 (this process) or more")
    if approximate_from is not None and approximate_from < 0:
        raise InputError(f"approximate-from is {approximate_from}; it must be 0 or more frames")
    if features is False:
        check_without_gens("--no-features leaves it out; leave out --no-features", prompt=prompt, loading=loading)
    elif features is None and sampler is None:
        why = "index loads it only where it makes features; add --features or --sampler"
        check_without_gens(why, prompt=prompt, loading=loading)
    settings = Settings(
        preset=preset,
        encoder=encoder,
        sampler=sampler,
        rate=rate,
        policy=sampling.value if sampling else None,
        decoder=decoder,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        loading=loading,
    )
    settings.check()  # before anything is looked at or made
    videos = _named_videos(paths, as_json=as_json) if paths else _failed_videos(archive, forget_gone=not dry_run)
    settings = replace(settings, prompt=None if prompt is None else read_prompt_file(prompt))
    if dry_run:
        _estimate(archive, videos, settings, features=features, backend=backend, as_json=as_json)
        return
    on_gpu = choose_device(device).type != "cpu"
    engine = Engine(open_archive(archive, backend=backend), settings)
    recipe = EngineRecipe(archive=engine.archive.uri, settings=settings, features=features, retry_failed=retry_failed)
    count = choose_workers(len(videos), on_gpu=on_gpu) if workers is None else workers
    with engine, RunReport(workers=count, videos=len(videos), as_json=as_json) as report:
        summary = _run(engine, recipe, videos, report, workers=count)
        if summary.stopped_by is None and not summary.interrupted:
            _refresh_approximate(engine, approximate_from, as_json=as_json)
    tell_summary(archive, summary, as_json=as_json)
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


def _run(engine: Engine, recipe: EngineRecipe, videos: list[Path], report: RunReport, *, workers: int) -> RunSummary:
    from hybrid.engine.batch.run import index_here
    from hybrid.engine.batch.workers import index_in_workers

    if workers == 0:
        return index_here(engine, videos, report, features=recipe.features, retry_failed=recipe.retry_failed)
    return index_in_workers(recipe, videos, report, workers=workers)


def _refresh_approximate(engine: Engine, from_frames: int | None, *, as_json: bool) -> None:
    """Have the approximate index take in what is new; if that fails, the videos are indexed all the same."""
    from hybrid.cli.progress import print_json_line
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


def _named_videos(paths: list[str], *, as_json: bool) -> list[Path]:
    """The videos that the arguments stand for; says what was passed over in folders."""
    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import echo

    found = find_videos(paths)
    if found.passed_over and as_json:
        print_json_line(event="passed_over", **found.passed_over.to_dict())
    elif found.passed_over:
        echo(found.passed_over.line(), err=True)
    return found.videos


def _failed_videos(archive: str, *, forget_gone: bool) -> list[Path]:
    """The videos that the archive has a record of having failed; those that are gone may be forgotten."""
    from indexes.format.failures import failures, forget_failure
    from indexes.open_archive import open_archive

    videos = []
    with open_archive(archive, create=False) as opened:
        for failure in failures(opened.folder):
            if Path(failure.path).exists():
                videos.append(Path(failure.path))
            elif forget_gone:
                forget_failure(opened.folder, failure.video_id, failure.path, drop=opened.drop_file)
    return videos


def _estimate(
    archive: str,
    videos: list[Path],
    settings: Settings,
    *,
    features: bool | None,
    backend: str | None,
    as_json: bool,
) -> None:
    from hybrid.cli.run_report import tell_estimate
    from hybrid.engine.batch.estimate import estimate_run
    from hybrid.errors import ArchiveFormatError
    from indexes.format.location import is_remote, local_folder
    from indexes.open_archive import open_archive

    try:
        with open_archive(archive, backend=backend, create=False) as opened:
            estimate = estimate_run(opened, videos, settings, features=features)
    except ArchiveFormatError:
        if not is_remote(archive) and local_folder(archive).is_dir() and any(local_folder(archive).iterdir()):
            raise
        estimate = estimate_run(None, videos, settings, features=features)
    tell_estimate(estimate, as_json=as_json)
