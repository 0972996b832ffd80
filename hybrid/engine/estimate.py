"""What an indexing run would take, without decoding or hashing anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hybrid.errors import VideoOpenError
from hybrid.frames.probe import probe_seconds
from hybrid.places import absolute_path
from hybrid.values import DEFAULT_RATE
from indexes.identity import remembered
from indexes.manifest import Manifest
from indexes.paths import Layout
from indexes.reader import ArchiveReader

__all__ = ["RunEstimate", "estimate_run"]

_USUAL_DIMENSION = 512
_BYTES_A_FRAME = 26
"""Of a timeline: ordinal, time and frame number; and the share of what else a video has."""


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run would take.

    Attributes:
        videos: how many were named.
        indexed: how many are indexed already, as far as can be told without reading them.
        unopenable: videos that cannot be opened, each with the reason.
        hours: of video that is to be indexed, as the containers state it.
        frames: how many samples that is.
        disk_bytes: what their indexes will take.
        seconds: how long it will take with one worker; None if nothing was indexed here yet that would tell.
        basis: what the figures rest on.
    """

    videos: int
    indexed: int
    unopenable: tuple[str, ...]
    hours: float
    frames: int
    disk_bytes: int
    seconds: float | None
    basis: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for ``json.dumps``."""
        return asdict(self)


def estimate_run(archive: ArchiveReader | None, videos: Sequence[Path], *, rate: float | None) -> RunEstimate:
    """Estimate a run from what the containers state and from what the archive took so far.

    Args:
        archive: where the run would index to; None if there is none yet.
        videos: what it would be given.
        rate: samples per second, if the caller said it.
    """
    manifests = [] if archive is None else list(archive.manifests())
    ids = {manifest.video_id for manifest in manifests}
    places = {place: manifest for manifest in manifests for place in manifest.source.places}
    indexed, hours, frames = 0, 0.0, 0
    unopenable: list[str] = []
    samples_a_second = rate or DEFAULT_RATE
    for video in videos:
        if archive is not None and _is_indexed(archive, video, ids, places):
            indexed += 1
            continue
        try:
            length = probe_seconds(video) or 0.0
        except VideoOpenError as exc:
            unopenable.append(str(exc))
            continue
        hours += length / 3600
        frames += max(1, math.ceil(length * samples_a_second))
    dimension = max((manifest.dimension for manifest in manifests), default=_USUAL_DIMENSION)
    spent = sum(sum(manifest.seconds.values()) for manifest in manifests)
    done = sum(manifest.frames for manifest in manifests)
    basis = f"stated lengths, {samples_a_second:g} samples a second, {dimension} values a vector"
    if spent:
        basis += f", {done / spent:.1f} frames a second as for the {done} frames that are indexed here"
    else:
        basis += "; how fast it goes is not known before something was indexed here"
    return RunEstimate(
        videos=len(videos),
        indexed=indexed,
        unopenable=tuple(unopenable),
        hours=hours,
        frames=frames,
        disk_bytes=frames * (2 * dimension + _BYTES_A_FRAME) + 2_000 * (len(videos) - indexed - len(unopenable)),
        seconds=frames * spent / done if spent and done else None,
        basis=basis,
    )


def _is_indexed(archive: ArchiveReader, video: Path, ids: set[str], places: dict[str, Manifest]) -> bool:
    known = remembered(video, cache=Layout(archive.folder).known_paths)
    if known is not None:
        return known in ids
    manifest = places.get(absolute_path(video))
    if manifest is None or not video.is_file():
        return False
    # Not remembered by the last reading: the same place and the same length will do for an estimate.
    return video.stat().st_size == manifest.source.size_bytes
