"""``hybrid list``: what an archive holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption

if TYPE_CHECKING:
    from indexes.features_list import FeatureList

__all__ = ["list_videos"]


def list_videos(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """List the indexed videos of an archive. --json prints one line a video."""
    from rich.console import Console
    from rich.table import Column, Table

    from hybrid.cli.progress import print_json_line
    from hybrid.cli.text import clock, plain, size
    from hybrid.errors import IndexDamagedError
    from indexes.archive import Archive

    damaged: list[str] = []

    def remember(_: str, error: IndexDamagedError) -> None:
        damaged.append(str(error))

    with Archive.open(archive, create=False) as opened:
        manifests = list(opened.manifests(on_damage=remember))
        backend = opened.backend
        features = [opened.feature_lists(manifest) for manifest in manifests]
    video = Column("video", overflow="fold")
    names = ("length", "frames", "rate", "sampling", "encoder", "features", "status")
    table = Table(video, *names, title=f"{plain(str(archive))} ({backend})")
    for manifest, stored in zip(manifests, features, strict=True):
        if as_json:
            print_json_line(**manifest.model_dump(mode="json"), features=[_plain(listed) for listed in stored])
            continue
        encoder = manifest.config.encoder
        table.add_row(
            plain(manifest.source.path),
            clock(manifest.video.duration_seconds),
            str(manifest.frames),
            f"{manifest.config.rate:g}/s",
            manifest.config.policy,
            plain("/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key))),
            ", ".join(f"{int(listed.present.sum())} ({size(listed.size_bytes)})" for listed in stored),
            manifest.status,
        )
    if not as_json:
        Console().print(table)
    for line in damaged:
        typer.echo(f"damaged: {line}", err=True)
    if damaged:
        raise typer.Exit(1)


def _plain(listed: FeatureList) -> dict[str, Any]:
    return {**listed.spec.to_dict(), "frames": int(listed.present.sum()), "size_bytes": listed.size_bytes}
