"""Where everything lies in an archive. Relative to its folder throughout, so the folder can be moved."""

from __future__ import annotations

import fnmatch
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import IndexDamagedError
from indexes.format.keys import VectorKey, check_video_id

__all__ = ["Layout", "feature_list_name", "feature_values_name", "files_like"]


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

    @property
    def known_weights(self) -> Path:
        """Digests of the weights of samplers, by the state of their files; may be deleted."""
        return self.folder / "cache" / "weights"

    @property
    def catalogue(self) -> Path:
        """All manifests in one file; may be deleted."""
        return self.folder / "cache" / "catalogue"

    @property
    def approximate(self) -> Path:
        """The approximate index; may be deleted."""
        return self.folder / "approximate"

    @property
    def failed(self) -> Path:
        """One file for each video that could not be indexed, with the reason."""
        return self.folder / "failed"

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
        yield from files_like(self.video(video_id), "timeline-*.safetensors")

    def features(self, video_id: str, frames: str, spec: str) -> Path:
        """The list of features under one spec, for the frames with this key."""
        return self.video(video_id) / feature_list_name(frames, spec)

    def feature_lists(self, video_id: str, frames: str = "*") -> Iterator[Path]:
        """Every list of features of a video, spoken for or not; or only those for the frames with this key."""
        yield from files_like(self.video(video_id), feature_list_name(frames, "*"))

    def feature_values(self, video_id: str) -> Iterator[Path]:
        """Every file with the values of features, spoken for or not."""
        yield from files_like(self.video(video_id), "features-*.values")


def files_like(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder under a name of this form, in order; nothing if there is no such folder.

    Not ``Path.glob``, which raises where a writer deletes the folder while it is looked at, and takes a folder
    that cannot be read for an empty one.

    Raises:
        IndexDamagedError: the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise IndexDamagedError(f"{folder}: cannot be read: {exc.strerror}") from exc
    return [folder / name for name in names if fnmatch.fnmatchcase(name, pattern)]


def feature_list_name(frames: str, spec: str) -> str:
    """The name of a list of features."""
    return f"features-{frames}-{spec}.safetensors"


def feature_values_name(frames: str, spec: str) -> str:
    """A new name for a file with the values of features, so that no list that is there means it."""
    return f"features-{frames}-{spec}-{secrets.token_hex(4)}.values"
