"""``hybrid search``: one question to a whole archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.options import (
    DEFAULT_ARCHIVE,
    DEFAULT_PRESET,
    SHOWN_FRAMES,
    ArchiveOption,
    ContextOption,
    DeviceOption,
    DtypeOption,
    EncoderOption,
    JsonOption,
    LoadingOption,
    PresetOption,
    PromptOption,
    SamplerOption,
    SegmentsOption,
    WindowFramesOption,
    WindowOption,
    check_without_gens,
    open_engine,
    read_window,
)
from hybrid.formatting import plural
from hybrid.values import DEFAULT_FRAMES

if TYPE_CHECKING:
    from rich.console import Console

    from hybrid.answers import Answer, FoundVideo, SearchResult

__all__ = ["search"]

_SHOWN_SKIPPED = 10


def search(
    question: Annotated[str, typer.Argument(help="What you want to see.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    preset: PresetOption = DEFAULT_PRESET,
    video: Annotated[
        list[str] | None, typer.Option("--video", help="Only this video (path or content id); may come many times.")
    ] = None,
    under: Annotated[
        list[Path] | None, typer.Option("--under", help="Only videos below this folder; may come many times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only videos indexed since then: 2026-03-01, 2026-03-01T14:30.")
    ] = None,
    top: Annotated[int, typer.Option("--top", help="How many frames over all videos, at most.")] = DEFAULT_FRAMES,
    fine: Annotated[int, typer.Option("--fine", help="Ask GenS about so many of the best videos.")] = 0,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", help=f"With --fine: how many frames to select in a video; {DEFAULT_FRAMES} if not said."
        ),
    ] = None,
    window: WindowOption = None,
    window_frames: WindowFramesOption = None,
    segments: SegmentsOption = None,
    context: ContextOption = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every frame, even where there is an approximate index.")
    ] = False,
    encoder: EncoderOption = None,
    sampler: SamplerOption = None,
    prompt: PromptOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a video cannot be searched, or a stage falls back.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    loading: LoadingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search all videos of an archive, or some of them, for what a question asks.

    Small archives are searched exactly, large ones by an approximate index (hybrid stats says how well it finds).
    Videos that cannot be searched are named with the reason.
    """
    from hybrid.cli.progress import print_json
    from hybrid.options.ask import AskOptions
    from hybrid.options.search import SearchOptions
    from indexes.archive.lookup import read_date
    from indexes.open_archive import open_archive

    mode, size = read_window(window, window_frames)
    ask = AskOptions(frames=frames, window=size, window_mode=mode, segments=segments, context_seconds=context)
    options = SearchOptions(  # before anything is loaded
        top=top, fine=fine, videos=video, under=under, strict=strict, exact=exact, ask=ask
    )
    if not fine:
        why = "it is asked only with --fine; say about how many of the best videos (--fine 3)"
        check_without_gens(why, sampler=sampler, prompt=prompt, loading=loading)
    when = None if since is None else read_date(since)
    open_archive(archive, create=False).close()  # a slip in the name must not make an archive
    engine = open_engine(
        archive,
        preset=preset,
        encoder=encoder,
        sampler=sampler,
        rate=None,
        sampling=None,
        backend=None,
        decoder=None,
        device=device,
        dtype=dtype,
        prompt=prompt,
        loading=loading,
    )
    with engine:
        result = engine.search(question, options, since=when)
    if as_json:
        print_json(result.to_dict(), indent=2)
    else:
        _show(result)


def _show(result: SearchResult) -> None:
    from hybrid.cli.text import styled, terminal

    console = terminal()
    console.print(styled((result.question, "bold")))
    for place, found in enumerate(result.videos, start=1):
        _show_video(console, place, found)
    console.print(f"searched {plural(result.searched_frames, 'frame')} of {plural(result.searched_videos, 'video')}")
    for stage in result.stages:
        if stage.ran or stage.name == "index" or (stage.name == "gens" and stage.candidates_in):
            facts = filter(None, (stage.model, stage.device, f"{stage.seconds:.3f} s"))
            console.print(f"{stage.name}: {'  '.join(facts)}")
        for note in stage.notes:
            console.print(f"{stage.name}: {note}")
        if stage.fallback_reason:
            console.print(styled(("fallback", "bold yellow"), f" {stage.name}: {stage.fallback_reason}"))
    for skipped in result.skipped[:_SHOWN_SKIPPED]:
        console.print(f"not searched: {skipped.video or skipped.video_id}: {skipped.reason}")
    if len(result.skipped) > _SHOWN_SKIPPED:
        console.print(f"not searched: {len(result.skipped) - _SHOWN_SKIPPED} more (all with --json)")


def _show_video(console: Console, place: int, found: FoundVideo) -> None:
    from hybrid.cli.text import clock, styled

    length = clock(found.duration_seconds)
    console.print(styled(f"{place}. ", (found.video, "bold"), f" ({length})  best {found.similarity:.3f}"))
    if found.gone is not None:
        console.print(styled("     ", ("found in the index only", "bold yellow"), f": {found.gone}"))
    best = sorted(found.frames, key=lambda frame: -(frame.clip_similarity or 0.0))[:SHOWN_FRAMES]
    shown = ", ".join(f"{clock(frame.seconds)} ({frame.clip_similarity or 0.0:.3f})" for frame in best)
    more = f" and {len(found.frames) - len(best)} more" if len(found.frames) > len(best) else ""
    console.print(f"     most similar: {shown}{more}")
    if found.answer is not None:
        _show_answer(console, found.answer)


def _show_answer(console: Console, answer: Answer) -> None:
    """What GenS says of one of the best videos, as ``hybrid ask`` shows it."""
    from rich.padding import Padding

    from hybrid.cli.tables import frames_table, spans_table
    from hybrid.cli.text import styled

    console.print(Padding(spans_table(answer), (0, 0, 0, 5)))
    console.print(Padding(frames_table(answer), (0, 0, 0, 5)))
    for stage in answer.stages:
        for note in stage.notes:
            console.print(f"     {stage.name}: {note}")
        if stage.fallback_reason:
            console.print(styled("     ", ("fallback", "bold yellow"), f" {stage.name}: {stage.fallback_reason}"))
