"""``hybrid export``, ``import``, ``convert``: indexes that go from one archive to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption, NewArchiveOption
from hybrid.cli.text import echo
from hybrid.errors import HybridError, InputError
from hybrid.formatting import plural
from indexes.stores.registry import STORES

__all__ = ["convert", "export_video", "import_videos"]


def export_video(
    video: Annotated[str, typer.Argument(help="A path, or a content id.")],
    file: Annotated[Path, typer.Argument(help="ZIP file to write; an exported index that is there is replaced.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    as_json: JsonOption = False,
) -> None:
    """Write the index of one video into a file that any archive can import, whatever its backend."""
    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import size
    from hybrid.exports.output_file import EXPORT, check_output
    from indexes.archive.lookup import find_indexed
    from indexes.maintenance.transfer import export_index
    from indexes.open_archive import open_archive

    check_output(file, EXPORT, name="the file to write", archive=archive, video=video)
    with open_archive(archive, create=False) as opened:
        manifest = find_indexed(opened, video)
        count = export_index(opened, manifest, file)
    if as_json:
        print_json_line(event="exported", video=manifest.source.path, video_id=manifest.video_id, bytes=count)
    else:
        echo(f"exported {manifest.source.path}: {plural(manifest.frames, 'frame')}, {size(count)} in {file}")


def import_videos(
    files: Annotated[list[Path], typer.Argument(help="Files that hybrid export wrote.")],
    archive: NewArchiveOption = DEFAULT_ARCHIVE,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the archive holds another index.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take exported indexes into an archive, which is made if it is not there. Every byte is checked."""
    from contextlib import ExitStack

    from hybrid.cli.progress import print_json_line
    from indexes.archive.writer import Archive
    from indexes.maintenance.transfer import import_index, read_export
    from indexes.open_archive import open_archive

    failed = 0
    with ExitStack() as stack:
        opened: Archive | None = None
        for file in files:
            try:
                export = read_export(file)
            except HybridError as exc:
                failed += 1
                _tell_failed(file, exc, as_json=as_json)
                continue
            # Only now: files that are not there must not make an archive.
            opened = opened or stack.enter_context(open_archive(archive))
            try:
                manifest, fresh = import_index(opened, export, replace=replace)
            except HybridError as exc:
                failed += 1
                _tell_failed(file, exc, as_json=as_json)
                continue
            outcome = "imported" if fresh else "unchanged"
            if as_json:
                print_json_line(event=outcome, file=str(file), video_id=manifest.video_id, frames=manifest.frames)
            else:
                echo(f"{outcome} {manifest.source.path}: {plural(manifest.frames, 'frame')}")
    if failed:
        raise typer.Exit(1)


def _tell_failed(file: Path, exc: HybridError, *, as_json: bool) -> None:
    from hybrid.cli.progress import print_json_line

    if as_json:
        print_json_line(event="failed", file=str(file), error=str(exc))
    else:
        echo(f"failed   {exc}", err=True)


def convert(
    target: Annotated[str, typer.Argument(help="Folder of the new archive, or s3://BUCKET/PREFIX.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", help=f"Of the new archive: {', '.join(STORES.names)}; default: another than the old one's."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the target holds another index.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy an archive into one of another backend. Stopped at any moment, the same command goes on."""
    from hybrid.cli.progress import print_json_line
    from indexes.format.location import is_remote, local_folder
    from indexes.maintenance.transfer import copy_index
    from indexes.open_archive import open_archive

    if target == archive or (not is_remote(target) and local_folder(target) == local_folder(archive)):
        raise InputError(f"{target} is the archive that is to be converted; name another folder for the result")
    copied = there = 0
    failed: list[str] = []
    with open_archive(archive, create=False) as source:
        chosen = backend or next(name for name in STORES.names if name != source.backend)
        with open_archive(target, backend=chosen) as result:
            for manifest in source.manifests(on_damage=lambda _, error: failed.append(str(error))):
                try:
                    fresh = copy_index(source, result, manifest, replace=replace)
                except HybridError as exc:
                    failed.append(str(exc))
                    continue
                copied, there = copied + fresh, there + (not fresh)
                if as_json:
                    print_json_line(event="copied" if fresh else "unchanged", video_id=manifest.video_id)
            result.store.compact()
    for line in failed:
        echo(f"failed   {line}", err=True)
    if as_json:
        print_json_line(event="summary", archive=target, copied=copied, unchanged=there, failed=len(failed))
    else:
        echo(f"{plural(copied, 'index', 'indexes')} copied to {target}, {there} there already, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)
