"""``hybrid features``: what is stored of GenS's vision tower."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.text import echo

__all__ = ["features"]

features = typer.Typer(
    help="GenS's stored features of frames; hybrid list shows their size.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@features.callback()
def _root() -> None:
    pass


@features.command("drop")
def drop(
    videos: Annotated[list[str], typer.Argument(help="Videos: paths, or content ids as in hybrid list --json.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Delete the stored features of videos. Their indexes stay; the next questions make what they need anew."""
    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import size
    from hybrid.engine import Engine
    from hybrid.options.engine import EngineOptions
    from indexes.open_archive import open_archive

    with Engine(open_archive(archive, create=False), EngineOptions()) as engine:
        for video in videos:
            freed = engine.drop_features(video)
            if as_json:
                print_json_line(event="dropped", video=video, freed_bytes=freed)
            else:
                echo(f"dropped  {video}: {size(freed)} of features" if freed else f"{video}: no features are stored")
