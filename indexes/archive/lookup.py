"""The indexed videos that a caller names: by path, by content id, by folder, by date."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from hybrid.errors import InputError, VideoError, VideoNotIndexedError
from hybrid.storage.file_identity import absolute_path
from indexes.archive.reader import ArchiveReader
from indexes.format.layout import Layout
from indexes.format.manifest import Manifest

__all__ = ["choose", "find_by_name", "find_id", "find_indexed", "lies_under", "read_date", "require_indexed"]


def find_indexed(archive: ArchiveReader, video: str) -> Manifest:
    """The index of the video that a path or a content id names.

    A path that exists is looked up by its content, so a moved video is found; one that does not exist, by the
    paths where videos were met.

    Raises:
        VideoNotIndexedError: the archive holds no such video.
        IndexDamagedError: its manifest cannot be read.
    """
    path = Path(video).expanduser()
    if path.exists():
        try:
            video_id = archive.identify(path)
        except VideoError as exc:
            raise VideoNotIndexedError(f"archive {archive.uri} does not know {video}: {exc}") from exc
        return require_indexed(archive, path, video_id)
    manifest = find_by_name(archive, path)
    if manifest is None:
        remedy = f"list what it holds with: hybrid list --archive {archive.uri}"
        raise VideoNotIndexedError(f"archive {archive.uri} holds no video {video}; {remedy}")
    return manifest


def find_by_name(archive: ArchiveReader, path: Path) -> Manifest | None:
    """The index of a video that is named by its content id, or by a path where it lay; None if there is none."""
    name, location = str(path), absolute_path(path)
    known = (found for found in archive.manifests() if name == found.video_id or location in found.source.locations)
    return next(known, None)


def require_indexed(archive: ArchiveReader, path: Path, video_id: str) -> Manifest:
    """The index of the video that lies at a path, by its content id.

    Raises:
        VideoNotIndexedError: the archive holds no such video; the text names it by the path.
        IndexDamagedError: its manifest cannot be read.
    """
    manifest = archive.manifest(video_id)
    if manifest is None:
        command = shlex.join(["hybrid", "index", str(path), "--archive", archive.uri])
        raise VideoNotIndexedError(f"archive {archive.uri} holds no index of {path}; to make one: {command}")
    return manifest


def find_id(archive: ArchiveReader, video: str) -> str:
    """The content id of the video that is meant, also of one whose manifest is damaged, if it is named by its id.

    Raises:
        VideoNotIndexedError: the archive holds no such video.
    """
    with contextlib.suppress(InputError):
        if Layout(archive.folder).video(video).is_dir():
            return video
    return find_indexed(archive, video).video_id


def choose(
    manifests: Iterable[Manifest], *, under: Sequence[str | Path] = (), since: datetime | None = None
) -> list[Manifest]:
    """Those of some videos that lie below one of some folders and were indexed at or after a time.

    Args:
        manifests: the videos.
        under: folders; none stands for everywhere. Of a video with several locations, only those below
            a folder are named in what is returned.
        since: with a time zone.
    """
    folders = [absolute_path(Path(folder).expanduser()) for folder in under]
    chosen = []
    for manifest in manifests:
        if since is not None and _indexed_at(manifest) < since:
            continue
        if folders:
            source = manifest.source
            below = [path for path in source.locations if any(lies_under(path, folder) for folder in folders)]
            if not below:
                continue
            if len(below) < len(source.locations):
                manifest = manifest.model_copy(update={"source": source.only_at(below)})
        chosen.append(manifest)
    return chosen


def _indexed_at(manifest: Manifest) -> datetime:
    """When a video was indexed. Another program may have written no zone, or no time at all; that is long ago."""
    try:
        when = _from_iso(manifest.created_at)
    except ValueError:
        when = datetime.min
    return when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)


def _from_iso(text: str) -> datetime:
    """Also with ``Z`` for UTC, which Python 3.10 does not know."""
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)


def lies_under(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or lies below it.

    >>> lies_under("/a/b/c.mp4", "/a/b"), lies_under("/a/bc.mp4", "/a/b"), lies_under("/x", "/")
    (True, False, True)
    """
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def read_date(text: str) -> datetime:
    """A date or a time as people write it: ``2026-03-01``, ``2026-03-01 14:30``, ISO 8601; local if no zone is named.

    Raises:
        InputError: it is neither.
    """
    try:
        return _from_iso(text.strip()).astimezone()
    except (ValueError, OverflowError) as exc:
        raise InputError(f"date is {text!r}; write it like 2026-03-01 or 2026-03-01T14:30") from exc
