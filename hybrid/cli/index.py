"""``hybrid index``: index videos; what is indexed already costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.options import (
    DEFAULT_ARCHIVE,
    DEFAULT_PRESET,
    ArchiveOption,
    BackendOption,
    BatchOption,
    DecoderOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    JsonOption,
    LoadingOption,
    PresetOption,
    PromptOption,
    RateOption,
    SamplerOption,
    SamplingOption,
    open_engine,
)
from hybrid.cli.paths import find_videos
from hybrid.errors import InputError

if TYPE_CHECKING:
    from hybrid.cli.run_report import RunReport
    from hybrid.engine import Engine
    from hybrid.engine.run import RunSummary
    from hybrid.engine.workers import EngineRecipe

__all__ = ["index"]

EXIT_INTERRUPTED = 130


def index(
    paths: Annotated[list[str] | None, typer.Argument(help="Videos, folders (searched), or quoted patterns.")] = None,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
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
    as_json: JsonOption = False,
) -> None:
    """Index videos. What is indexed already, with the same settings, costs nothing.

    A video that fails does not end the run; the exit code is then 1. A video whose content is to
    blame is not tried again by the next run, unless with --retry-failed.
    """
    from hybrid.cli.run_report import RunReport, tell_summary
    from hybrid.engine.workers import EngineRecipe, choose_workers

    if not paths and not retry_failed:
        raise InputError("say which videos: files, folders or quoted patterns")
    if workers is not None and workers < 0:
        raise InputError(f"workers is {workers}; it must be 0 (this process) or more")
    videos = find_videos(paths) if paths else _failed_videos(archive, forget_gone=not dry_run)
    if dry_run:
        _estimate(archive, videos, rate=rate, as_json=as_json)
        return
    engine = open_engine(
        archive,
        preset=preset,
        encoder=encoder,
        sampler=sampler,
        rate=rate,
        sampling=sampling,
        backend=backend,
        decoder=decoder,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        prompt=prompt,
        loading=loading,
    )
    recipe = EngineRecipe(
        archive=str(engine.archive.folder),
        options={
            "preset": preset,
            "encoder": encoder,
            "sampler": sampler,
            "rate": rate,
            "sampling": sampling.value if sampling else None,
            "decoder": decoder.value if decoder else None,
            "device": device,
            "dtype": dtype,
            "prompt": prompt,
            "batch_size": batch_size,
            "loading": loading,
        },
        features=features,
        retry_failed=retry_failed,
    )
    count = choose_workers(len(videos)) if workers is None else workers
    with engine, RunReport(workers=count, videos=len(videos), as_json=as_json) as report:
        summary = _run(engine, recipe, videos, report, workers=count)
    tell_summary(archive, summary, as_json=as_json)
    if summary.stopped_by is not None:
        raise summary.stopped_by
    if summary.interrupted:
        typer.echo("stopped; what was finished is kept, the same command goes on from there", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.failed:
        raise typer.Exit(1)


def _run(engine: Engine, recipe: EngineRecipe, videos: list[Path], report: RunReport, *, workers: int) -> RunSummary:
    from hybrid.engine.run import index_here
    from hybrid.engine.workers import index_in_workers

    if workers == 0:
        return index_here(engine, videos, report, features=recipe.features, retry_failed=recipe.retry_failed)
    return index_in_workers(recipe, videos, report, workers=workers)


def _failed_videos(archive: Path, *, forget_gone: bool) -> list[Path]:
    """The videos that the archive has a record of having failed; those that are gone may be forgotten."""
    from indexes.archive import Archive
    from indexes.failures import failures, forget_failure

    Archive.open(archive, create=False).close()
    videos = []
    for failure in failures(archive):
        if Path(failure.path).exists():
            videos.append(Path(failure.path))
        elif forget_gone:
            forget_failure(archive, failure.video_id, failure.path)
    return videos


def _estimate(archive: Path, videos: list[Path], *, rate: float | None, as_json: bool) -> None:
    from hybrid.cli.run_report import tell_estimate
    from hybrid.engine.estimate import estimate_run
    from hybrid.errors import ArchiveFormatError
    from indexes.archive import Archive

    try:
        with Archive.open(archive, create=False) as opened:
            estimate = estimate_run(opened, videos, rate=rate)
    except ArchiveFormatError:
        if archive.exists() and any(archive.iterdir()):
            raise
        estimate = estimate_run(None, videos, rate=rate)
    tell_estimate(estimate, as_json=as_json)
