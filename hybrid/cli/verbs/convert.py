"""``hybrid convert``: an archive into one of another backend."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hybrid.cli.display.text import echo, print_json_line, report
from hybrid.cli.options import BACKENDS, DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.errors import HybridError, InputError
from hybrid.formatting import plural
from indexes.stores.registry import STORES

__all__ = ["VERB"]


def convert(
    target: Annotated[str, typer.Argument(help="Folder of the new archive, or s3://BUCKET/PREFIX.")],
    archive: ArchiveOption = DEFAULT_ARCHIVE,
    backend: Annotated[
        str | None,
        typer.Option("--backend", metavar=BACKENDS, help="Of the new archive.  [default: another than the old one's]"),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where the target holds another index.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy an archive into one of another backend. Stopped at any moment, the same command goes on."""
    from indexes.format.location import is_remote, local_folder
    from indexes.maintenance.transfer import copy_index
    from indexes.open_archive import open_archive

    if target == archive or (not is_remote(target) and local_folder(target) == local_folder(archive)):
        raise InputError(f"{target} is the archive that is to be converted; name another folder for the result")
    copied = existing = 0
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
                copied, existing = copied + fresh, existing + (not fresh)
                if as_json:
                    print_json_line(event="copied" if fresh else "unchanged", video_id=manifest.video_id)
            result.store.compact()
    for line in failed:
        echo(f"failed   {line}", err=True)
    text = f"{plural(copied, 'index', 'indexes')} copied to {target}, {existing} there already, {len(failed)} failed"
    counts: dict[str, Any] = {"copied": copied, "unchanged": existing, "failed": len(failed)}
    report(text, as_json=as_json, event="summary", archive=target, **counts)
    if failed:
        raise typer.Exit(1)


VERB = Verb("convert", convert)
