"""The names in an archive: of videos, of their vectors, and of all files, relative to the archive's folder."""

from __future__ import annotations

import fnmatch
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import IndexDamagedError, InputError

__all__ = [
    "VIDEO_ID",
    "Layout",
    "VectorKey",
    "check_video_id",
    "feature_list_name",
    "feature_values_name",
    "files_like",
    "key_of",
    "keys_of",
    "read_file",
]

VIDEO_ID = "[0-9a-f]{32}"
"""A content id, as a regular expression."""

_VIDEO_ID = re.compile(VIDEO_ID)
_HEXADECIMAL = re.compile(r"[0-9a-f]{1,64}")


def check_video_id(video_id: str) -> str:
    """Return the id, which becomes part of paths and filters, if it is a legal one.

    Raises:
        InputError: it is not 32 lower-case hexadecimal digits.
    """
    if not _VIDEO_ID.fullmatch(video_id):
        raise InputError(f"video id is {video_id!r}; it must be 32 lower-case hexadecimal digits")
    return video_id


@dataclass(frozen=True, slots=True, order=True)
class VectorKey:
    """The name of one video's vectors.

    Attributes:
        video_id: lower-case hexadecimal content id of the video.
        generation: lower-case hexadecimal; differs between two indexes of the same video, so that
            a new one can be written beside the one in use.
    """

    video_id: str
    generation: str

    def __post_init__(self) -> None:
        check_video_id(self.video_id)
        if not _HEXADECIMAL.fullmatch(self.generation):
            raise InputError(f"generation is {self.generation!r}; it must be 1 to 64 lower-case hexadecimal digits")

    def __str__(self) -> str:
        return f"{self.video_id}-{self.generation}"


def key_of(video_id: object, generation: object) -> VectorKey | None:
    """The key that two stored names make; None where they are damaged."""
    try:
        return VectorKey(str(video_id), str(generation))
    except InputError:
        return None


def keys_of(video_ids: Sequence[object], generations: Sequence[object]) -> dict[int, VectorKey]:
    """The keys that columns of stored names make, by their index, without those that are damaged."""
    keys = map(key_of, video_ids, generations)
    return {index: key for index, key in enumerate(keys) if key is not None}


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

    def video_ids(self) -> list[str]:
        """The videos that have a folder, in order; foreign names are left out."""
        try:
            return sorted(filter(_VIDEO_ID.fullmatch, os.listdir(self.videos)))
        except FileNotFoundError:
            return []

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


def read_file(path: Path) -> bytes | None:
    """The content of a file of an archive; None if there is no such file.

    Raises:
        IndexDamagedError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise IndexDamagedError(f"{path}: cannot be read: {exc.strerror}") from exc


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
