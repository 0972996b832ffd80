"""``hybrid list``: what an archive holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from hybrid.cli.display.text import clock, echo, print_json_line, size
from hybrid.cli.options import DEFAULT_ARCHIVE, ArchiveOption, JsonOption
from hybrid.cli.registry import Verb
from hybrid.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexes.format.feature_list import FeatureList
    from indexes.format.manifest import Manifest

__all__ = ["VERB"]


def list_videos(archive: ArchiveOption = DEFAULT_ARCHIVE, as_json: JsonOption = False) -> None:
    """List the indexed videos of an archive. --json prints one line a video."""
    from hybrid.errors import IndexDamagedError
    from indexes.open_archive import open_archive

    damaged: list[str] = []

    def remember(_: str, error: IndexDamagedError) -> None:
        damaged.append(str(error))

    with open_archive(archive, create=False) as opened:
        manifests = list(opened.manifests(on_damage=remember))
        backend = opened.backend
        features = [opened.feature_lists(manifest) for manifest in manifests]
    if not as_json:
        echo(f"{archive} ({backend})")
    for manifest, stored in zip(manifests, features, strict=True):
        if as_json:
            print_json_line(**manifest.model_dump(mode="json"), features=[_plain(listed) for listed in stored])
        else:
            # The path has a line of its own, so that it can be copied from however narrow a terminal.
            echo(manifest.source.path, f"    {_facts(manifest, stored)}")
            for location in manifest.source.locations[1:]:
                echo(f"    also at {location}")
    for line in damaged:
        echo(f"damaged: {line}", err=True)
    if damaged:
        raise typer.Exit(1)


VERB = Verb("list", list_videos)


def _facts(manifest: Manifest, stored: Sequence[FeatureList]) -> str:
    """What is known of a video, in one line."""
    encoder = manifest.config.encoder
    facts = [
        clock(manifest.video.duration_seconds),
        plural(manifest.frames, "frame"),
        f"{manifest.config.rate:g}/s {manifest.config.policy}",
        "/".join(str(encoder[key]) for key in ("model", "pretrained") if encoder.get(key)),
        *(f"features of {plural(int(listed.present.sum()), 'frame')} ({size(listed.size_bytes)})" for listed in stored),
        manifest.status,
    ]
    return "  ".join(facts)


def _plain(listed: FeatureList) -> dict[str, Any]:
    return {**listed.spec.to_dict(), "frames": int(listed.present.sum()), "size_bytes": listed.size_bytes}
