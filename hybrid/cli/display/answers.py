"""Answers and results of searches as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Column, Table

from hybrid.cli.display.text import best_part, clock, styled, terminal
from hybrid.formatting import plural

if TYPE_CHECKING:
    from rich.console import Console

    from hybrid.answers import Answer, FoundVideo, SearchResult, Span, Stage

__all__ = ["show_answer", "show_search", "show_short_answer"]

SHOWN_FRAMES = 8
"""How many frames are named where there is one line for them."""
SHOWN_SKIPPED = 10


def show_answer(answer: Answer) -> None:
    """One answer: its spans, frames and stages."""
    console = terminal()
    console.print(styled((answer.question, "bold"), f"  {answer.video} ({clock(answer.duration_seconds)})"))
    console.print(_spans_table(answer))
    console.print(_frames_table(answer))
    console.print(_stages_table(answer.stages))
    _show_notes(console, answer.stages)
    if answer.reply is not None:
        console.print(f"reply: {answer.reply}")


def show_short_answer(answer: Answer) -> None:
    """One of many answers, in a few lines."""
    console = terminal()
    console.print(styled((answer.question, "bold")))
    for span in answer.spans:
        times = f"{clock(span.start_seconds)} to {clock(span.end_seconds)}"
        best = f"  (best: {best_part(span)})" if span.best else ""
        console.print(f"  {times}  {span.score:.3g} by {span.scorer}{best}")
    if not answer.spans:
        console.print("  no spans")
    shown = _first([clock(frame.seconds) for frame in answer.frames])
    console.print(f"  frames {shown}" if shown else "  no frames")
    _show_notes(console, answer.stages, indent="  ", notes_of=("gens",))


def show_search(result: SearchResult) -> None:
    """What a search found, best first."""
    console = terminal()
    console.print(styled((result.question, "bold")))
    for rank, found in enumerate(result.videos, start=1):
        _show_video(console, rank, found)
    console.print(f"searched {plural(result.searched_frames, 'frame')} of {plural(result.searched_videos, 'video')}")
    for stage in result.stages:
        if stage.ran or stage.name == "index" or (stage.name == "gens" and stage.candidates_in):
            facts = filter(None, (stage.model, stage.device, f"{stage.seconds:.3f} s"))
            console.print(f"{stage.name}: {'  '.join(facts)}")
        _show_notes(console, [stage])
    for skipped in result.skipped[:SHOWN_SKIPPED]:
        console.print(f"not searched: {skipped.video or skipped.video_id}: {skipped.reason}")
    if len(result.skipped) > SHOWN_SKIPPED:
        console.print(f"not searched: {len(result.skipped) - SHOWN_SKIPPED} more (all with --json)")


def _show_video(console: Console, rank: int, found: FoundVideo) -> None:
    length = clock(found.duration_seconds)
    console.print(styled(f"{rank}. ", (found.video, "bold"), f" ({length})  best {found.similarity:.3f}"))
    if found.gone is not None:
        console.print(styled("     ", ("found in the index only", "bold yellow"), f": {found.gone}"))
    best = sorted(found.frames, key=lambda frame: -(frame.clip_similarity or 0.0))
    shown = _first([f"{clock(frame.seconds)} ({frame.clip_similarity or 0.0:.3f})" for frame in best])
    console.print(f"     most similar: {shown}")
    if found.answer is not None:
        console.print(Padding(_spans_table(found.answer), (0, 0, 0, 5)))
        console.print(Padding(_frames_table(found.answer), (0, 0, 0, 5)))
        _show_notes(console, found.answer.stages, indent="     ")


def _show_notes(
    console: Console, stages: Iterable[Stage], *, indent: str = "", notes_of: Sequence[str] | None = None
) -> None:
    """What stages have to say: notes (``notes_of`` these stages only), and why one fell back."""
    for stage in stages:
        for note in stage.notes if notes_of is None or stage.name in notes_of else ():
            console.print(f"{indent}{stage.name}: {note}")
        if stage.fallback_reason:
            console.print(styled(indent, ("fallback", "bold yellow"), f" {stage.name}: {stage.fallback_reason}"))


def _first(texts: Sequence[str]) -> str:
    """As many as one line has room for, and how many more there are."""
    more = f" and {len(texts) - SHOWN_FRAMES} more" if len(texts) > SHOWN_FRAMES else ""
    return f"{', '.join(texts[:SHOWN_FRAMES])}{more}"


def _table(*columns: str | Column, title: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _spans_table(answer: Answer) -> Table | str:
    """From when to when, how good and by whom; a word where there is no span."""
    table = _table("from", "to", "score", "best part", "by", title="spans")
    for span in answer.spans:
        table.add_row(*_times(span), f"{span.score:.3g}", best_part(span), span.scorer)
    return table if answer.spans else "no spans"


def _times(span: Span) -> tuple[str, str]:
    return clock(span.start_seconds), clock(span.end_seconds)


def _frames_table(answer: Answer) -> Table | str:
    """When each frame is shown, which one it is and what CLIP and GenS say of it; a word where there is none."""
    table = _table("time", "seconds", "frame", "CLIP", "GenS", title="frames")
    for frame in answer.frames:
        similarity = "" if frame.clip_similarity is None else f"{frame.clip_similarity:.3f}"
        score = _text(frame.gens_score)
        table.add_row(clock(frame.seconds), f"{frame.seconds:.3f}", str(frame.frame_number), similarity, score)
    return table if answer.frames else "no frames"


def _stages_table(stages: Sequence[Stage]) -> Table:
    table = _table("stage", "ran", Column("model", overflow="fold"), "device", "in", "out", "seconds", title="stages")
    for stage in stages:
        counts = _text(stage.candidates_in), _text(stage.candidates_out)
        ran, seconds = "yes" if stage.ran else "no", f"{stage.seconds:.3f}"
        table.add_row(stage.name, ran, stage.model or "", stage.device or "", *counts, seconds)
    return table


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
