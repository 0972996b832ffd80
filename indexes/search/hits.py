"""What a search of many videos finds, and how it came by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hybrid.values import Hits
from indexes.format.manifest import Manifest

__all__ = ["ApproximateRecord", "ArchiveHits"]


@dataclass(frozen=True, slots=True)
class ApproximateRecord:
    """What the approximate index did for a search.

    Attributes:
        used: whether the result rests on it.
        problem: why it did not do all that it should; None if it did.
        note: why it was not used although nothing is wrong; None if it was.
        units: how many were scanned.
        compared_units, compared_frames: how many were compared exactly.
        exact_frames: how many frames of videos that it does not cover were searched exactly.
        segments: how many it has.
        device: where the codes were scanned.
    """

    used: bool
    problem: str | None = None
    note: str | None = None
    units: int = 0
    compared_units: int = 0
    compared_frames: int = 0
    exact_frames: int = 0
    segments: int = 0
    device: str | None = None


@dataclass(frozen=True, slots=True)
class ArchiveHits:
    """The best frames of some videos.

    Attributes:
        hits: by video id, for the videos that have a frame among the best ``top`` of all: those
            frames, best first. The video with the best frame comes first.
        failed: video id -> why it could not be searched.
        manifests: by video id, for the videos that were searched: the index whose rows the hits are. It is
            another than the one that was asked for where the video was indexed anew meanwhile.
        approximate: what the approximate index did; None if there is none, or it was not asked for.
    """

    hits: Mapping[str, Hits]
    failed: Mapping[str, str]
    manifests: Mapping[str, Manifest]
    approximate: ApproximateRecord | None = None

    @property
    def searched(self) -> frozenset[str]:
        """Ids of the videos that were searched."""
        return frozenset(self.manifests)
