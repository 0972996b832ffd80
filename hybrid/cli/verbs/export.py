"""``hybrid export``: the index of one video as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.display.text import report, size
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

__all__ = ["VERB"]


def export_video(
    video: Annotated[str, typer.Argument(help="A path, or a content id.")],
    file: Annotated[Path, typer.Argument(help="ZIP file to write; an exported index that is there is replaced.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Write the index of one video into a file that any archive can import, whatever its backend."""
    from hybrid.export.output_file import EXPORT, check_output
    from indexes.archive.lookup import find_indexed
    from indexes.maintenance.transfer import export_index
    from indexes.open_archive import open_archive

    check_output(file, EXPORT, name="the file to write", archive=archive, video=video)
    with open_archive(archive, create=False) as opened:
        manifest = find_indexed(opened, video)
        count = export_index(opened, manifest, file)
    path = manifest.source.path
    text = f"exported {path}: {plural(manifest.frames, 'frame')}, {size(count)} in {file}"
    report(text, as_json=as_json, event="exported", video=path, video_id=manifest.video_id, bytes=count)


VERB = Verb("export", export_video)
