"""``hybrid list``: what an archive holds."""

from __future__ import annotations

import typer

from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption

__all__ = ["list_videos"]


def list_videos(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """List the indexed videos of an archive. --json prints one line a video."""
    from rich.console import Console
    from rich.table import Column, Table

    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import clock, plain
    from hybrid.errors import IndexDamagedError
    from indexes.archive import Archive

    damaged: list[str] = []

    def remember(_: str, error: IndexDamagedError) -> None:
        damaged.append(str(error))

    with Archive.open(archive, create=False) as opened:
        manifests = list(opened.manifests(on_damage=remember))
        backend = opened.backend
    video = Column("video", overflow="fold")
    table = Table(
        video, "length", "frames", "rate", "sampling", "encoder", "status", title=f"{plain(str(archive))} ({backend})"
    )
    for manifest in manifests:
        if as_json:
            print_json_line(**manifest.model_dump(mode="json"))
            continue
        encoder = manifest.config.encoder
        table.add_row(
            plain(manifest.source.path),
            clock(manifest.video.duration_seconds),
            str(manifest.frames),
            f"{manifest.config.rate:g}/s",
            manifest.config.policy,
            plain("/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key))),
            manifest.status,
        )
    if not as_json:
        Console().print(table)
    for line in damaged:
        typer.echo(f"damaged: {line}", err=True)
    if damaged:
        raise typer.Exit(1)
