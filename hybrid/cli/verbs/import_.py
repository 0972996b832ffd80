"""``hybrid import``: exported indexes into an archive."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid.cli.display.text import report
from hybrid.cli.options import DEFAULT_ARCHIVE, JsonOption, NewArchiveOption
from hybrid.cli.registry import Verb
from hybrid.errors import HybridError
from hybrid.formatting import plural

if TYPE_CHECKING:
    from indexes.archive.writer import Archive

__all__ = ["VERB"]


def import_videos(
    files: Annotated[list[Path], typer.Argument(help="Files that hybrid export wrote.")],
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the archive holds another index.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take exported indexes into an archive, which is made if it is not there. Every byte is checked."""
    from indexes.maintenance.transfer import import_index, read_export
    from indexes.open_archive import open_archive

    failed: list[Path] = []
    with ExitStack() as stack:
        opened: Archive | None = None
        for file in files:
            try:
                export = read_export(file)
            except HybridError as exc:
                failed.append(_print_failed(file, exc, as_json=as_json))
                continue
            # Only now: files that are not there must not make an archive.
            opened = opened or stack.enter_context(open_archive(archive))
            try:
                manifest, fresh = import_index(opened, export, replace=replace)
            except HybridError as exc:
                failed.append(_print_failed(file, exc, as_json=as_json))
                continue
            event, frames = "imported" if fresh else "unchanged", manifest.frames
            text = f"{event} {manifest.source.path}: {plural(frames, 'frame')}"
            report(text, as_json=as_json, event=event, file=str(file), video_id=manifest.video_id, frames=frames)
    if failed:
        raise typer.Exit(1)


VERB = Verb("import", import_videos)


def _print_failed(file: Path, exc: HybridError, *, as_json: bool) -> Path:
    report(f"failed   {exc}", err=True, as_json=as_json, event="failed", file=str(file), error=str(exc))
    return file
