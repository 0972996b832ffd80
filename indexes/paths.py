"""Where everything lies in an archive. Relative to its folder throughout, so the folder can be moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexes.base import VectorKey, check_video_id

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of an archive's files. Knows no content."""

    folder: Path

    @property
    def header(self) -> Path:
        """What makes the folder an archive."""
        return self.folder / "archive.json"

    @property
    def videos(self) -> Path:
        """One folder a video."""
        return self.folder / "videos"

    @property
    def pending(self) -> Path:
        """One empty file for each video that is being written, or whose writing was cut short."""
        return self.folder / "pending"

    @property
    def locks(self) -> Path:
        """Lock files. Their existence means nothing; whether a process holds them does."""
        return self.folder / "locks"

    @property
    def known_paths(self) -> Path:
        """Content ids by path; may be deleted."""
        return self.folder / "cache" / "paths"

    def video(self, video_id: str) -> Path:
        """The folder of one video."""
        return self.videos / check_video_id(video_id)

    def manifest(self, video_id: str) -> Path:
        """The commit point of one video's index."""
        return self.video(video_id) / "manifest.json"

    def timeline(self, key: VectorKey) -> Path:
        """The times of one generation's rows."""
        return self.video(key.video_id) / f"timeline-{key.generation}.safetensors"

    def timelines(self, video_id: str) -> Iterator[Path]:
        """Every timeline of a video, spoken for or not."""
        yield from sorted(self.video(video_id).glob("timeline-*.safetensors"))
