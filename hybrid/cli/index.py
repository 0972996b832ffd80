"""``hybrid index``: index videos; what is indexed already costs nothing."""

from __future__ import annotations

import time
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
    PresetOption,
    RateOption,
    SamplingOption,
    open_engine,
)
from hybrid.cli.paths import find_videos
from hybrid.errors import HybridError, ModelError

if TYPE_CHECKING:
    from hybrid.cli.progress import BarProgress, JsonProgress
    from hybrid.engine import Engine, IndexResult

__all__ = ["index"]

EXIT_INTERRUPTED = 130


def index(
    paths: Annotated[list[str], typer.Argument(help="Videos, folders (searched), or quoted patterns.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    preset: PresetOption = DEFAULT_PRESET,
    encoder: EncoderOption = None,
    rate: RateOption = None,
    sampling: SamplingOption = None,
    backend: BackendOption = None,
    decoder: DecoderOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index videos. What is indexed already, with the same settings, costs nothing."""
    from hybrid.cli.progress import BarProgress, JsonProgress

    videos = find_videos(paths)
    engine = open_engine(
        archive,
        preset=preset,
        encoder=encoder,
        sampler=None,
        rate=rate,
        sampling=sampling,
        backend=backend,
        decoder=decoder,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    started = time.perf_counter()
    with engine, JsonProgress() if as_json else BarProgress() as progress:
        failed = _index_all(engine, videos, progress, as_json=as_json)
    _summary(archive, len(videos), failed, time.perf_counter() - started, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _index_all(
    engine: Engine, videos: list[Path], progress: BarProgress | JsonProgress, *, as_json: bool
) -> list[tuple[Path, str]]:
    failed: list[tuple[Path, str]] = []
    for video in videos:
        try:
            result = engine.index(video, progress=progress)
        except ModelError:
            # Without an encoder no video can be indexed; going on would fail on every one.
            progress.finish("failed")
            raise
        except (HybridError, OSError) as exc:
            progress.finish("failed")
            failed.append((video, str(exc)))
            _tell_failure(video, str(exc), as_json=as_json)
        except KeyboardInterrupt:
            progress.finish("failed")
            typer.echo("stopped; what was finished is kept, the same command goes on from there", err=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        else:
            _tell_result(result, as_json=as_json)
    return failed


def _tell_result(result: IndexResult, *, as_json: bool) -> None:
    from hybrid.cli.progress import print_json_line

    if as_json:
        print_json_line(event="done", **result.to_dict())
        return
    seconds = sum(result.seconds.values())
    took = f" in {seconds:.1f} s ({result.frames / seconds:.1f} frames/s)" if seconds else ""
    because = f", changed: {'; '.join(result.changed)}" if result.changed else ""
    note = f" [{result.note}]" if result.note else ""
    partial = "" if result.status == "done" else f" ({result.status})"
    typer.echo(f"{result.outcome}{partial}  {result.video}: {result.frames} frames{took}{because}{note}")


def _tell_failure(video: Path, reason: str, *, as_json: bool) -> None:
    from hybrid.cli.progress import print_json_line

    if as_json:
        print_json_line(event="failed", video=str(video), error=reason)
    else:
        typer.echo(f"failed   {reason}", err=True)


def _summary(archive: Path, count: int, failed: list[tuple[Path, str]], seconds: float, *, as_json: bool) -> None:
    from hybrid.cli.progress import print_json_line

    if as_json:
        print_json_line(
            event="summary",
            archive=str(archive),
            videos=count,
            failed=[str(video) for video, _ in failed],
            seconds=round(seconds, 3),
        )
        return
    typer.echo(f"{count - len(failed)} of {count} videos are indexed in {archive}", err=bool(failed))
