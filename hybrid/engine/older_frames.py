"""Indexes that were made by older rules for reading frames, of files whose frames are others by today's."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from hybrid.engine.checking import what_fits
from hybrid.errors import VideoOpenError
from hybrid.formatting import plural
from hybrid.frames.rules import FRAME_RULES, Indexed, why_frames_changed
from indexes.format.manifest import Manifest

__all__ = ["check_frames", "older_note", "why_other_frames"]


def why_other_frames(manifest: Manifest, path: Path) -> str | None:
    """Why the frames of an index are not those that are read of its video now; None if they are.

    Only an index by older rules costs more than a comparison: its file is opened.

    Args:
        manifest: of the index.
        path: where the video lies.

    Raises:
        VideoError: it cannot be opened.
    """
    if manifest.frame_rules >= FRAME_RULES:
        return None
    return why_frames_changed(
        path,
        since=manifest.frame_rules,
        decoder=manifest.config.decoder,
        policy=manifest.config.policy,
        indexed=Indexed(manifest.video.duration_seconds, manifest.status == "partial", manifest.missing),
    )


def older_note(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """What to say of videos whose indexes were made by older rules; nothing where none was. No file is opened."""
    older = sum(manifest.frame_rules < FRAME_RULES for manifest in manifests)
    if not older:
        return ()
    number = plural(older, "index was", "indexes were")
    return (f"{number} made by older rules for reading frames; hybrid index looks whether that matters for the video",)


def check_frames(manifest: Manifest, path: Path, *, place: str) -> None:
    """Refuse to read frames for an index that was made of others.

    Args:
        manifest, path: as for :func:`why_other_frames`.
        place: of the archive, for the command that mends it.

    Raises:
        VideoOpenError: it was, or it cannot be opened.
    """
    reason = why_other_frames(manifest, path)
    if reason is not None:
        # Named, because another encoder would be taken for a wish to change it.
        command = f"{shlex.join(['hybrid', 'index', str(path), '--archive', place])} {what_fits(manifest)}"
        raise VideoOpenError(
            f"the index of {path} was made by older rules for reading frames, and its frames are others now: {reason}; "
            f"make it anew: {command}"
        )
