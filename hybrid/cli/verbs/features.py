"""``hybrid features drop``: delete the stored visual features of videos."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.display.text import report, size
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb

__all__ = ["VERB"]


def drop(
    videos: Annotated[list[str], typer.Argument(help="Videos: paths, or content ids as in hybrid list --json.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Delete the stored features of videos. Their indexes stay; the next questions make what they need anew."""
    from hybrid.engine import Engine

    with Engine.open(archive, create=False) as engine:
        for video in videos:
            freed = engine.drop_features(video)
            text = f"dropped  {video}: {size(freed)} of features" if freed else f"{video}: no features are stored"
            report(text, as_json=as_json, event="dropped", video=video, freed_bytes=freed)


VERB = Verb("features drop", drop, group_help="GenS's stored features of frames; hybrid list shows their size.")
