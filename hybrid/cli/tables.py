"""An answer's spans and frames as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from hybrid.cli.text import best_part, clock

if TYPE_CHECKING:
    from hybrid.answers import Answer

__all__ = ["frames_table", "spans_table"]


def spans_table(answer: Answer) -> Table | str:
    """From when to when, how good and by whom; a word where there is no span."""
    table = Table("from", "to", "score", "best part", "by", title="spans", title_justify="left")
    for span in answer.spans:
        times = clock(span.start_seconds), clock(span.end_seconds)
        table.add_row(*times, f"{span.score:.3g}", best_part(span), span.scorer)
    return table if answer.spans else "no spans"


def frames_table(answer: Answer) -> Table | str:
    """When each frame is shown, which one it is and what CLIP and GenS say of it; a word where there is none."""
    table = Table("time", "seconds", "frame", "CLIP", "GenS", title="frames", title_justify="left")
    for frame in answer.frames:
        table.add_row(
            clock(frame.seconds),
            f"{frame.seconds:.3f}",
            str(frame.frame_number),
            "" if frame.clip_similarity is None else f"{frame.clip_similarity:.3f}",
            "" if frame.gens_score is None else str(frame.gens_score),
        )
    return table if answer.frames else "no frames"
