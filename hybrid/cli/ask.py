"""``hybrid ask``: one question about one video."""

from __future__ import annotations

from collections.abc import Iterator
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
    SamplerOption,
    SamplingOption,
    open_engine,
)
from hybrid.spans import DEFAULT_MIN_SCORE
from hybrid.values import DEFAULT_FRAMES, DEFAULT_WINDOW

if TYPE_CHECKING:
    from hybrid.engine import Engine
    from hybrid.values import Answer, ByteArray

__all__ = ["ask"]


def ask(
    video: Annotated[str, typer.Argument(help="A video file, or a folder of numbered images.")],
    question: Annotated[str, typer.Argument(help="What you want to see.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    preset: PresetOption = DEFAULT_PRESET,
    frames: Annotated[int, typer.Option("--frames", help="How many frames to select at most.")] = DEFAULT_FRAMES,
    window: Annotated[int, typer.Option("--window", help="How many frames GenS reads at once.")] = DEFAULT_WINDOW,
    encoder: EncoderOption = None,
    sampler: SamplerOption = None,
    prompt: Annotated[Path | None, typer.Option("--prompt", help="File with a prompt for the sampler.")] = None,
    no_fine: Annotated[bool, typer.Option("--no-fine", help="Without GenS: the most similar frames.")] = False,
    no_coarse: Annotated[bool, typer.Option("--no-coarse", help="Without CLIP: GenS reads the whole video.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a stage cannot do what it should.")] = False,
    min_score: Annotated[
        int, typer.Option("--min-score", help="Least GenS score (1-5) of a span's frames.")
    ] = DEFAULT_MIN_SCORE,
    gap: Annotated[
        float | None, typer.Option("--gap", help="Seconds between two stretches that are still one span.")
    ] = None,
    frames_dir: Annotated[Path | None, typer.Option("--frames-dir", help="Save the frames here as PNG.")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="Save a contact sheet (PNG) here.")] = None,
    rate: RateOption = None,
    sampling: SamplingOption = None,
    backend: BackendOption = None,
    decoder: DecoderOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a video a question. It is indexed first if it is not yet.

    Exit code 0 also where a stage had to be replaced (the answer says so); --strict makes that 1.
    """
    from hybrid.cli.progress import BarProgress
    from hybrid.progress import NullProgress

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
    )
    with engine:
        with BarProgress() as bar:
            answer = engine.ask(
                video,
                question,
                frames=frames,
                window=window,
                coarse=not no_coarse,
                fine=not no_fine,
                strict=strict,
                min_score=min_score,
                gap_seconds=gap,
                progress=NullProgress() if as_json else bar,
            )
        # First what was asked for; a sheet that cannot be saved must not cost the answer.
        if as_json:
            typer.echo(answer.to_json())
        else:
            _show(answer)
        _save(engine, answer, frames_dir=frames_dir, sheet=sheet, quiet=as_json)


def _save(engine: Engine, answer: Answer, *, frames_dir: Path | None, sheet: Path | None, quiet: bool) -> None:
    from hybrid.exports.images import save_frames
    from hybrid.exports.sheet import save_sheet

    if frames_dir is not None:
        save_frames(answer, _images(engine, answer), frames_dir)
    if sheet is not None:
        save_sheet(answer, _images(engine, answer), sheet)
    if not quiet:
        for place in filter(None, (frames_dir, sheet)):
            typer.echo(f"saved {place}")


def _images(engine: Engine, answer: Answer) -> Iterator[tuple[int, ByteArray]]:
    """The frames of the answer; none if the video cannot be read any more, which is said."""
    from hybrid.errors import VideoError

    try:
        yield from engine.read_frames(answer.video, [frame.ordinal for frame in answer.frames])
    except VideoError as exc:
        typer.echo(f"hybrid: there are no pictures to save: {exc}", err=True)


def _show(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from hybrid.cli.text import clock, plain

    console = Console(highlight=False)
    console.print(f"[bold]{plain(answer.question)}[/bold]  {plain(answer.video)} ({clock(answer.duration_seconds)})")
    spans = Table("from", "to", "score", "by", title="spans", title_justify="left")
    for span in answer.spans:
        spans.add_row(clock(span.start_seconds), clock(span.end_seconds), f"{span.score:.3g}", span.scorer)
    console.print(spans if answer.spans else "no spans")
    frames = Table("time", "seconds", "frame", "CLIP", "GenS", title="frames", title_justify="left")
    for frame in answer.frames:
        frames.add_row(
            clock(frame.seconds),
            f"{frame.seconds:.3f}",
            str(frame.frame_number),
            "" if frame.clip_similarity is None else f"{frame.clip_similarity:.3f}",
            "" if frame.gens_score is None else str(frame.gens_score),
        )
    console.print(frames)
    stages = Table(
        "stage",
        "ran",
        Column("model", overflow="fold"),
        "device",
        "in",
        "out",
        "seconds",
        title="stages",
        title_justify="left",
    )
    for stage in answer.stages:
        stages.add_row(
            stage.name,
            "yes" if stage.ran else "no",
            plain(stage.model or ""),
            stage.device or "",
            "" if stage.candidates_in is None else str(stage.candidates_in),
            "" if stage.candidates_out is None else str(stage.candidates_out),
            f"{stage.seconds:.3f}",
        )
    console.print(stages)
    for stage in answer.stages:
        for note in stage.notes:
            console.print(f"{stage.name}: {plain(note)}")
        if stage.fallback_reason:
            console.print(f"[bold yellow]fallback[/bold yellow] {stage.name}: {plain(stage.fallback_reason)}")
    if answer.reply is not None:
        console.print(f"reply: {plain(answer.reply)}")
