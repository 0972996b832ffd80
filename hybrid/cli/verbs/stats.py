"""``hybrid stats``: what an archive holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid.cli.display.text import echo, print_json_line, size
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

if TYPE_CHECKING:
    from indexes.maintenance.recall import Recall

__all__ = ["VERB"]


def stats(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """Show what an archive holds and what it takes on disk."""
    from indexes.format.location import is_remote
    from indexes.maintenance.stats import archive_stats
    from indexes.open_archive import open_archive

    with open_archive(archive, create=False) as opened:
        found = archive_stats(opened)
    if as_json:
        print_json_line(**found.to_dict())
        return
    echo(f"{found.archive} ({found.backend})")
    counts = ", ".join(f"{count} {name}" for name, count in found.statuses.items() if count)
    videos, frames = plural(found.videos, "video"), plural(found.frames, "frame")
    echo(f"  {videos}, {found.hours:.2f} h, {frames}{f' ({counts})' if counts else ''}")
    for name, count in found.encoders.items():
        echo(f"  {plural(count, 'video')} with {name}")
    each = "" if found.bytes_per_frame is None else f", {found.bytes_per_frame:.0f} bytes a frame"
    parts = ", ".join(f"{kind} {size(count)}" for kind, count in found.bytes.items() if count)
    echo(f"  {size(sum(found.bytes.values()))} in {plural(found.files, 'file')}{each} ({parts})")
    echo(f"  whole-archive search: {found.search}")
    for recall in found.approximate:
        _print_recall(recall)
    if found.missing:
        echo(f"  {plural(found.missing, 'sample')} could not be decoded")
    if found.gone:
        remedy = "" if is_remote(archive) else " (hybrid remove --gone forgets them)"
        echo(f"  {plural(found.gone, 'video is not where it was', 'videos are not where they were')}{remedy}")
    for line in found.failed:
        echo(f"  failed: {line}")


VERB = Verb("stats", stats)


def _print_recall(recall: Recall) -> None:
    """How well the approximate index of one dimension finds."""
    echo(
        f"    {recall.covered_frames} of {plural(recall.frames, 'frame')} of {recall.dimension} values by "
        f"{plural(recall.units, 'unit')}, the others exactly"
    )
    if recall.recall is not None and recall.exact_ms is not None and recall.approximate_ms is not None:
        echo(
            f"    of the best {recall.top} frames it finds {100 * recall.recall:.1f} % "
            f"(least {100 * (recall.least_recall or 0.0):.1f} %, {plural(recall.queries, 'sample question')}), "
            f"in {recall.approximate_ms:.1f} ms, exactly in {recall.exact_ms:.1f} ms"
        )
    elif not recall.covered_frames:
        echo("    it covers no frames yet, so there is nothing to measure: every search is exact")
    else:
        echo(
            "    how much of the best it finds is not known: no sample questions are stored for the encoder of most "
            "videos (hybrid index with that encoder stores them)"
        )
    if recall.problem:
        echo(f"    {recall.problem}")
