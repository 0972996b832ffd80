"""``hybrid verify``: compare what is stored with its hashes."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli.display.text import echo, print_json_line
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

__all__ = ["VERB"]


def verify(
    videos: Annotated[list[str] | None, typer.Argument(help="Only these (paths or content ids); all if none.")] = None,
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Compare every stored byte with the hashes in the manifests. Exit code 1 if something is damaged."""
    from indexes.archive.lookup import find_id
    from indexes.maintenance.verify import verify_archive
    from indexes.open_archive import open_archive

    sound = damaged = frames = 0
    with open_archive(archive, create=False) as opened:
        chosen = [find_id(opened, video) for video in videos] if videos else None
        for finding in verify_archive(opened, chosen):
            sound += finding.state == "sound"
            damaged += finding.state == "damaged"
            frames += finding.frames
            if as_json:
                print_json_line(**finding.to_dict())
            elif finding.state != "sound":
                echo(f"{finding.state}  {finding.video or finding.video_id}: {finding.problem}")
    if not as_json:
        echo(f"{plural(sound, 'video')} with {plural(frames, 'frame')} sound, {damaged} damaged")
    if damaged:
        raise typer.Exit(1)


VERB = Verb("verify", verify)
